"""Who may import whom, beyond the layers (which import-linter keeps, `make lint`)."""

import re
import sys

from tests.architecture.source import MODULES, ROOT

PRIVATE = re.compile(r"^skerry\.(?P<domain>\w+)(?:\.\w+)*?\.(?:tables|store)(?:\.|$)")


def test_tables_and_stores_are_private_to_their_domain() -> None:
    found = [
        f"{module.where}:{line} imports {name}"
        for module in MODULES
        for name, line in module.imports()
        if (match := PRIVATE.match(name)) and match["domain"] != module.package
    ]
    assert not found


def test_the_command_line_knows_the_client_and_nothing_else() -> None:
    found = [
        f"{module.where}:{line} imports {name}"
        for module in MODULES
        if module.package == "cli"
        for name, line in module.imports()
        if name.startswith("skerry.") and not name.startswith(("skerry.cli", "skerry.client", "skerry.__version__"))
    ]
    assert not found


def test_the_client_knows_nothing_of_the_server() -> None:
    found = [
        f"{module.where}:{line} imports {name}"
        for module in MODULES
        if module.package == "client"
        for name, line in module.imports()
        if name.startswith("skerry.") and not name.startswith(("skerry.client", "skerry.__version__"))
    ]
    assert not found


def test_the_kernel_needs_the_standard_library_only() -> None:
    found = [
        f"{module.where}:{line} imports {name}"
        for module in MODULES
        if module.package == "kernel"
        for name, line in module.imports()
        if not name.startswith("skerry.kernel") and name.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert not found


def test_rules_touch_nothing_outside() -> None:
    """`rules.py` takes values and returns values: no database, no network, no clock, no files."""
    outside = (
        "skerry.db",
        "sqlalchemy",
        "psycopg",
        "httpx",
        "fastapi",
        "asyncio",
        "socket",
        "subprocess",
        "time.",
        "os.",
    )
    found = [
        f"{module.where}:{line} imports {name}"
        for module in MODULES
        if module.path.name == "rules.py" or module.path.parent.name == "rules"
        for name, line in module.imports()
        if f"{name}.".startswith(tuple(f"{prefix.rstrip('.')}." for prefix in outside))
    ]
    assert not found


def test_domains_stay_within_the_packages_that_are_declared() -> None:
    """A new package goes into the layers of `pyproject.toml`: import-linter says nothing of one it does not know."""
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    layers = declared[declared.index("layers = [") : declared.index("exhaustive")]
    unknown = {module.package for module in MODULES if module.package} - set(re.findall(r"\w+", layers)) - {"cli"}
    assert not unknown
