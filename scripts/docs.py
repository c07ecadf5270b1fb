"""Write `docs/reference/` from the code. `python scripts/docs.py` writes, `--check` says what is not current (exit 1).

Nothing is started: commands, routes, settings, metrics, errors and states are asked of the objects that define them.
"""

import argparse
import ast
import importlib
import inspect
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import click
import typer
from prometheus_client import CollectorRegistry

from skerry.cli.catalog import ENTRIES, SECTIONS
from skerry.cli.main import app as cli
from skerry.db.database import Database
from skerry.inference.gateway.metrics import GatewayMetrics
from skerry.kernel.errors import SkerryError
from skerry.kernel.states import StateMachine
from skerry.runtime.secrets import Keyring
from skerry.runtime.settings import Settings
from skerry.server.app import create_app
from skerry.server.compose import build
from skerry.server.roles import controller, gateway, shipper
from skerry.server.telemetry import ServerMetrics

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
FOLDER = ROOT / "docs" / "reference"
HEAD = "<!-- Made by `python scripts/docs.py` from the code. Do not edit. -->\n\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = {name: text for name, text in pages().items() if _read(FOLDER / name) != text}
    for name, text in stale.items():
        words = f"{name} is not current: run python scripts/docs.py" if check else f"docs/reference/{name}"
        sys.stdout.write(words + "\n")
        if not check:
            FOLDER.mkdir(parents=True, exist_ok=True)
            (FOLDER / name).write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


def pages() -> dict[str, str]:
    """The text of each page by its file name."""
    makers: dict[str, Callable[[], Iterator[str]]] = {
        "cli.md": cli_page,
        "api.md": api_page,
        "settings.md": settings_page,
        "metrics.md": metrics_page,
        "errors.md": errors_page,
        "states.md": states_page,
    }
    return {name: HEAD + "\n".join(make()).rstrip() + "\n" for name, make in makers.items()}


# --- command line
def cli_page() -> Iterator[str]:
    yield "# Command line\n"
    yield (
        "Every list takes `--json`; stdout carries the answer and nothing else. Exit codes: 0 done, 1 it failed, 2 "
        "wrong use, 3 not reachable, 4 not allowed.\n"
    )
    root = cast(click.Group, typer.main.get_command(cli))
    context = click.Context(root, info_name="skerry")
    for title, entries in SECTIONS:
        yield f"## {title}\n"
        for entry in entries:
            if not entry.hidden:
                command = root.get_command(context, entry.name)
                assert command is not None
                yield from _command(command, f"skerry {entry.name}")


def _command(command: click.Command, name: str) -> Iterator[str]:
    yield f"### `{name}`\n"
    yield inspect.cleandoc(command.help or ENTRIES_HELP.get(name, "")) + "\n"
    if isinstance(command, click.Group):
        for part in command.commands.values():
            yield from _command(part, f"{name} {part.name}")
        return
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{name} {usage}\n```\n"
    rows = [_parameter(parameter, context) for parameter in command.params if not getattr(parameter, "hidden", False)]
    if rows:
        yield "| parameter | meaning |\n|---|---|"
        yield from rows
        yield ""


def _parameter(parameter: click.Parameter, context: click.Context) -> str:
    record = parameter.get_help_record(context)
    if record is None:
        return f"| `{parameter.human_readable_name}` | |"
    return f"| `{_cell(record[0])}` | {_cell(record[1])} |"


ENTRIES_HELP = {f"skerry {name}": entry.help for name, entry in ENTRIES.items()}


# --- HTTP
def api_page() -> Iterator[str]:
    api = _app().openapi()
    yield "# HTTP API\n"
    yield (
        "All paths of the control API, and those of `/v1` that the server answers. `POST /v1/chat/completions` and "
        "`POST /v1/completions` are the gateway's own and are those of the OpenAI API; the cloud itself shows the "
        "whole document at `/openapi.json` and `/docs`. Every operation but `/healthz` and `/readyz` takes "
        "`Authorization: Bearer sk-…`; errors are described in [errors](errors.md).\n"
    )
    for path, methods in sorted(api["paths"].items()):
        for method, operation in methods.items():
            yield f"## `{method.upper()} {path}`\n"
            yield _sentence(operation) + "\n"
            yield from _operation(operation, api)


def _operation(operation: dict[str, Any], api: dict[str, Any]) -> Iterator[str]:
    rows = [
        f"| `{p['name']}` | {p['in']} | {_type(p.get('schema', {}))} | {_cell(p.get('description', ''))} |"
        for p in operation.get("parameters", [])
        if p["in"] != "path" or p.get("description")
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    rows += [
        f"| `{name}`{'' if needed else '?'} | body | {_type(schema)} | {_cell(schema.get('description', ''))} |"
        for name, schema, needed in _fields(body, api)
    ]
    if rows:
        yield "| field | in | type | meaning |\n|---|---|---|---|"
        yield from rows
        yield ""
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            schema = response.get("content", {}).get("application/json", {}).get("schema", {})
            names = ", ".join(f"`{name}`" for name, _, _ in _fields(schema, api))
            yield f"Answers {status}" + (f": {names}." if names else ".") + "\n"


def _fields(schema: dict[str, Any], api: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    if "$ref" in schema:
        schema = api["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for name, part in schema.get("properties", {}).items():
        yield name, part, name in schema.get("required", [])


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if options := schema.get("anyOf"):
        return " \\| ".join(dict.fromkeys(_type(option) for option in options))
    if schema.get("type") == "array":
        return f"[{_type(schema.get('items', {}))}]"
    return str(schema.get("format") or schema.get("type") or "any")


def _sentence(operation: dict[str, Any]) -> str:
    return str(operation.get("description") or operation.get("summary") or "").strip()


def _app() -> Any:
    """The application on services that open nothing: no database is asked for its document."""
    database = Database("postgresql://nobody@127.0.0.1/none")
    settings = Settings(home=Path("/nonexistent"), state=Path("/nonexistent"))
    return create_app(build(settings, database, Keyring([("docs", b"0123456789abcdef")])), settings)


# --- settings
def settings_page() -> Iterator[str]:
    yield "# Settings\n"
    yield (
        "Settings come from the environment, once, when a process starts. `SKERRY_SECRET_KEY` is read apart from them: "
        "the installation's key, else the file `secret.key` in `SKERRY_HOME`. `SKERRY_STATE` is set by the launcher.\n"
    )
    yield "| variable | default | meaning |\n|---|---|---|"
    defaults = {"home": "`~/.skerry`", "state": "as `home`", "server_url": "the socket in `run/`"}
    said = _attribute_docs(Settings)
    for name, field in Settings.__dataclass_fields__.items():
        default = defaults.get(name, f"`{field.default}`")
        yield f"| `SKERRY_{name.upper()}` | {default} | {_cell(said.get(name, ''))} |"
    yield ""
    yield "The command line also reads:\n"
    yield "| variable | meaning |\n|---|---|"
    yield "| `SKERRY_URL`, `SKERRY_API_KEY` | address and key to use instead of those in `credentials.toml` |"
    yield "| `SKERRY_PROFILE` | a profile that `skerry login` has stored |"
    yield "| `SKERRY_DEBUG` | `1` shows tracebacks |"
    yield "| `NO_COLOR` | no colours |"


# --- metrics
def metrics_page() -> Iterator[str]:
    yield "# Metrics\n"
    yield (
        "`GET /metrics` joins the pages of all processes on the machine, in Prometheus format. It takes an operator "
        "key or `SKERRY_METRICS_TOKEN`. Every sample has the label `role`. No project or key is ever a label.\n"
    )
    for title, families in _metrics().items():
        yield f"## {title}\n"
        yield "| name | type | labels | meaning |\n|---|---|---|---|"
        for name, kind, labels, text in sorted(families):
            yield f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels) or '–'} | {_cell(text)} |"
        yield ""


Family = tuple[str, str, tuple[str, ...], str]


def _metrics() -> dict[str, list[Family]]:
    control = CollectorRegistry()
    controller._observer(control)
    quiet = SimpleNamespace(written=0, has_room=True)
    idle = SimpleNamespace(routes={}, fresh_at=0.0)
    stand_in = SimpleNamespace(
        metrics=GatewayMetrics(), connections=(), in_flight=(), journal=quiet, snapshot=idle, now=time.monotonic,
        waiting_room=SimpleNamespace(depths=dict),
    )  # fmt: skip
    collected = gateway._collector(cast(Any, stand_in)).collect()
    return {
        "gateway": [(_shown(f.name, f.type), f.type, tuple(f._labelnames), f.documentation) for f in collected],
        "server": _declared(ServerMetrics().registry),
        "controller": _declared(control),
        "shipper": _written(shipper),
    }


def _declared(registry: CollectorRegistry) -> list[Family]:
    known = cast(Any, registry)._collector_to_names
    return [(_shown(c._name, c._type), c._type, tuple(c._labelnames), c._documentation) for c in known]


def _written(module: ModuleType) -> list[Family]:
    """Gauges that a role makes inside its `run`."""
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Call)]
    return [
        (ast.literal_eval(call.args[0]), "gauge", (), ast.literal_eval(call.args[1]))
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "Gauge"
    ]


def _shown(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


# --- errors
def errors_page() -> Iterator[str]:
    yield "# Errors\n"
    yield textwrap.dedent(
        """\
        Below `/api/v1` an error is `application/problem+json`: `type`, `title`, `status`, `code`, `detail` (what
        happened), `suggestion` (what to do), and `errors`, a list of `{path, code, message}` for the fields at fault.
        Below `/v1` it has OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`. `429` and `503` carry
        `Retry-After`.

        `code` is stable and meant for programs. An error may use a code more special than the ones below for a field.
        """
    )
    yield "| status | code | meaning | from |\n|---|---|---|---|"
    for status, code, text, where in sorted(set(_errors())):
        yield f"| {status} | `{code}` | {_cell(text)} | {where} |"


def _errors() -> Iterator[tuple[int, str, str, str]]:
    modules = [(path, _load(path)) for path in sorted((SRC / "skerry").rglob("*.py")) if "migrations" not in path.parts]
    for path, module in modules:
        where = "/".join(path.relative_to(SRC / "skerry").parts[:-1])
        if where.startswith(("cli", "client")) or path.name == "__main__.py":
            continue
        for name, value in vars(module).items():
            if _is_error(value) and value.__module__ == module.__name__ and "code" in vars(value):
                text = inspect.getdoc(value) if "__doc__" in vars(value) and value.__doc__ else value.title
                if not name.startswith("_"):
                    yield value.status, value.code, str(text).partition("\n")[0], where
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (found := _raised(node, module)):
                yield (*found, where)


def _raised(call: ast.Call, module: ModuleType) -> tuple[int, str, str] | None:
    """Status, code and words of `Error("words", code="code")`; words only where they are plain text."""
    code = next((k.value.value for k in call.keywords if k.arg == "code" and isinstance(k.value, ast.Constant)), None)
    if not isinstance(call.func, ast.Name) or not isinstance(code, str):
        return None
    kind = getattr(module, call.func.id, None)
    words = next((a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)), "")
    if _is_error(kind):
        return kind.status, code, words
    first = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
    status = {"bad_request": 400, "unavailable": 503}.get(call.func.id, first if call.func.id == "ApiError" else None)
    return (status, code, words) if isinstance(status, int) else None


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, SkerryError) and isinstance(value.status, int)


# --- states
def states_page() -> Iterator[str]:
    yield "# States and other fixed words\n"
    yield "Every value of every enumeration in the code. What may follow what is a table; other steps are refused.\n"
    machines = list(_machines())
    for module, enum in _enums():
        yield f"### {enum.__name__} — `{enum.__module__}`\n"
        own = _own_doc(enum)
        if own:
            yield own + "\n"
        machine = next((m for m in machines if isinstance(next(iter(m._table)), enum)), None)
        said = _attribute_docs(enum, module)
        steps = " may become |" if machine else ""
        yield f"| value |{steps} meaning |\n|---|{'---|' if machine else ''}---|"
        for value in enum:
            after = ", ".join(f"`{state}`" for state in sorted(machine.after(value))) if machine else ""
            middle = f" {after or 'nothing: it is final'} |" if machine else ""
            yield f"| `{value.value}` |{middle} {_cell(said.get(value.name, ''))} |"
        yield ""


def _enums() -> Iterator[tuple[ModuleType, type[StrEnum]]]:
    for path in sorted((SRC / "skerry").rglob("*.py")):
        if "StrEnum" not in path.read_text(encoding="utf-8"):
            continue
        module = _load(path)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, StrEnum) and value.__module__ == module.__name__:
                yield module, value


def _machines() -> Iterator[StateMachine[Any]]:
    for module, _ in _enums():
        yield from (value for value in vars(module).values() if isinstance(value, StateMachine))


# --- helpers
def _load(path: Path) -> ModuleType:
    parts = path.relative_to(SRC).with_suffix("").parts
    return importlib.import_module(".".join(parts[:-1] if parts[-1] in ("__init__", "__main__") else parts))


def _attribute_docs(cls: type, module: ModuleType | None = None) -> dict[str, str]:
    """The strings and comments that stand behind the attributes of a class."""
    source = textwrap.dedent(inspect.getsource(cls))
    lines = source.splitlines()
    body = cast(ast.ClassDef, ast.parse(source).body[0]).body
    found: dict[str, str] = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if not isinstance(target, ast.Name):
            continue
        comment = lines[node.lineno - 1].partition("  # ")[2]
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[target.id] = str(after.value.value)
        elif comment and "noqa" not in comment:
            found[target.id] = comment
    return found


def _own_doc(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__) if "__doc__" in vars(cls) and cls.__doc__ else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
