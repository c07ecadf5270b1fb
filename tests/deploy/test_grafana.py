"""The dashboard asks for metrics and labels that there are."""

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
OURS = {"role", "pid", "le"}
_METRIC = re.compile(r"\bskerry_[a-z0-9_]+")
_LABELS = re.compile(r"\bby \(([^)]*)\)|\{([^}]*)\}")


@pytest.fixture(scope="module")
def known() -> dict[str, tuple[str, ...]]:
    """Labels by name, of all metrics that the roles show: what the reference is made of."""
    spec = importlib.util.spec_from_file_location("skerry_docs", ROOT / "scripts" / "docs.py")
    assert spec is not None and spec.loader is not None
    docs = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = docs
    spec.loader.exec_module(docs)
    names: dict[str, tuple[str, ...]] = {}
    for families in docs._metrics().values():
        for name, kind, labels, _ in families:
            shown = [f"{name}_bucket", f"{name}_sum", f"{name}_count"] if kind == "histogram" else [name]
            names |= dict.fromkeys(shown, labels)
    return names


def expressions(dashboard: dict) -> Iterator[str]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> dict:
    return json.loads(request.param.read_text(encoding="utf-8"))


def test_there_is_a_dashboard() -> None:
    assert [path.stem for path in DASHBOARDS] == ["skerry-inference"]


def test_every_metric_exists(dashboard: dict, known: dict[str, tuple[str, ...]]) -> None:
    asked = {name for expression in expressions(dashboard) for name in _METRIC.findall(expression)}
    assert len(asked) > 15
    assert asked <= known.keys(), asked - known.keys()


def test_every_label_is_one_of_the_metrics_in_its_expression(
    dashboard: dict, known: dict[str, tuple[str, ...]]
) -> None:
    for expression in expressions(dashboard):
        labels = {label for name in _METRIC.findall(expression) for label in known[name]} | OURS
        for grouped, matched in _LABELS.findall(expression):
            used = [part.strip() for part in grouped.split(",")] if grouped else re.findall(r"(\w+)\s*=", matched)
            assert set(used) <= labels, (expression, used)


def test_every_figure_the_gateway_keeps_by_endpoint_is_shown(
    dashboard: dict, known: dict[str, tuple[str, ...]]
) -> None:
    shown = "\n".join(expressions(dashboard))
    kept = {name for name in known if name.startswith("skerry_inference_")}
    # Rates of the counters say more than the gauges made of them.
    wanted = {name for name in kept if not name.endswith(("_sum", "_count", "_cached_share"))}
    assert not [name for name in wanted if name not in shown]


def test_panels_have_their_own_ids_and_places(dashboard: dict) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        taken |= cells


def test_parentheses_and_braces_are_balanced(dashboard: dict) -> None:
    for expression in expressions(dashboard):
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), expression
