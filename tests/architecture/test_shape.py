"""Files and functions stay small, imports stand at the top, nothing is global."""

import ast

from tests.architecture.source import MODULES, SRC

FILE_LINES = 500
FUNCTION_LINES = 80

FACES = {
    "__init__.py": "the version",
    "billing/model/__init__.py": "one import for the values of two ledgers",
    "billing/routes/__init__.py": "one router of two modules",
    "billing/service/__init__.py": "the face of the domain",
    "capacity/routes/__init__.py": "one router of three modules",
    "capacity/service/__init__.py": "the face of the domain",
    "client/__init__.py": "what users of the client import",
    "fleet/routes/__init__.py": "one router of four modules",
    "identity/routes/__init__.py": "one router of four modules",
    "inference/service/__init__.py": "the face of the domain",
    "inference/store/__init__.py": "one import for the stores of one domain",
    "server/roles/__init__.py": "the names of the roles",
}
"""Packages whose `__init__.py` is their face. All others are empty."""


def test_files_stop_at_500_lines() -> None:
    long = {module.where: len(module.lines) for module in MODULES if len(module.lines) > FILE_LINES}
    assert not long, f"split these into a folder of the same name: {long}"


def test_functions_stop_at_80_lines() -> None:
    """But for migrations: each is one list of statements that is never edited again."""
    long = {
        f"{module.where}:{function.lineno} {function.name}": length
        for module in MODULES
        if not module.where.startswith("db/migrations/versions/")
        for function in module.functions()
        if (length := (function.end_lineno or function.lineno) - function.lineno + 1) > FUNCTION_LINES
    }
    assert not long, f"take these apart: {long}"


def test_imports_stand_at_the_top() -> None:
    """But for the few that say on their line why they do not (`# noqa: PLC0415 - why`)."""
    found = [
        f"{module.where}:{node.lineno}"
        for module in MODULES
        for function in module.functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) and not _is_explained(module.lines[node.lineno - 1])
    ]
    assert not found, f"imports inside functions: {found}"


def test_nothing_is_global() -> None:
    found = [
        f"{module.where}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Global)
    ]
    assert not found


def test_package_files_are_empty_but_for_faces() -> None:
    filled = {module.where for module in MODULES if module.path.name == "__init__.py" and module.text.strip()}
    assert filled == set(FACES)


def test_modules_say_what_lives_in_them() -> None:
    silent = [
        module.where
        for module in MODULES
        if module.lines and module.path.name != "__main__.py" and ast.get_docstring(module.tree) is None
    ]
    assert not silent, f"modules without a docstring: {silent}"


def test_every_package_has_its_page() -> None:
    packages = sorted(folder for folder in SRC.iterdir() if folder.is_dir() and any(folder.rglob("*.py")))
    missing = [
        folder.name
        for folder in packages
        if not (folder / "README.md").is_file() or len((folder / "README.md").read_text(encoding="utf-8")) < 200
    ]
    assert not missing, f"packages without a README.md worth the name: {missing}"


def _is_explained(line: str) -> bool:
    return "noqa: PLC0415 - " in line
