"""What must not be forgotten: a loop for each reconciler, a word about each state, money without floats."""

import ast
import importlib
import inspect
from enum import StrEnum

import pytest

from skerry.server.roles import controller
from tests.architecture.source import MODULES, ROOT, Module

FLOAT_IS_FINE = {
    "billing/service/balances.py": ('"share": float(share)',),
}
"""Lines with a float that is no money: the share of a limit in an event, which is for display."""

MONEY = ("billing/", "kernel/money.py", "inference/gateway/pricing.py", "inference/gateway/balances.py", "reports/")


def test_every_reconciler_is_run_by_the_controller() -> None:
    have = {
        node.name
        for module in MODULES
        for node in module.classes()
        if {"claim", "step", "apply"} <= {part.name for part in node.body if isinstance(part, ast.AsyncFunctionDef)}
        and not any(_named(base) == "Protocol" for base in node.bases)
    }
    assert have, "the search itself is broken: there are reconcilers"
    built = _calls(ast.parse(inspect.getsource(controller.loops)))
    assert have - built == set(), "add these to loops() of server/roles/controller.py"


def test_every_state_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "states.md").read_text(encoding="utf-8")
    missing = []
    for enum in str_enums():
        heading = f"### {enum.__name__} — `{enum.__module__}`"
        section = page.partition(heading)[2].partition("\n### ")[0]
        missing += [
            f"{enum.__module__}.{enum.__name__}.{value.name}" for value in enum if f"`{value.value}`" not in section
        ]
    assert not missing, f"run `python scripts/docs.py`: {missing}"


@pytest.mark.parametrize(
    "module", [module for module in MODULES if module.where.startswith(MONEY)], ids=lambda m: m.where
)
def test_a_float_never_touches_money(module: Module) -> None:
    allowed = FLOAT_IS_FINE.get(module.where, ())
    found = [
        f"{module.where}:{node.lineno}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and _named(node.func) == "float"
        if not any(words in module.lines[node.lineno - 1] for words in allowed)
    ]
    assert not found


def str_enums() -> list[type[StrEnum]]:
    """All string enums that source files define, in the order of modules and lines."""
    found: list[type[StrEnum]] = []
    for module in MODULES:
        names = [node.name for node in module.classes() if any(_named(base) == "StrEnum" for base in node.bases)]
        loaded = importlib.import_module(module.name) if names else None
        found += [getattr(loaded, name) for name in names]
    return found


def _named(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _calls(tree: ast.AST) -> set[str]:
    return {_named(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
