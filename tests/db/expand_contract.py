"""Expand/contract: while a new version starts, the old one still runs on the same tables. So a migration only adds;
what takes something away (`CONTRACT = True`) ships one release after the code that no longer needs it."""

import ast
import re

_CALLS = {"drop_column", "drop_table", "rename_table", "drop_constraint"}
_ALTERS = {"type_", "new_column_name"}
_SQL = re.compile(
    r"\bDROP\s+(TABLE|COLUMN|VIEW|SEQUENCE|CONSTRAINT)\b|\bRENAME\b|\bALTER\s+(COLUMN\s+)?\S+\s+(SET\s+DATA\s+)?TYPE\b"
    r"|\bSET\s+NOT\s+NULL\b|\bTRUNCATE\b",
    re.IGNORECASE,
)


def takings(source: str) -> list[str]:
    """What a migration's `upgrade` takes away, as `line: what`; empty where it may, or takes nothing."""
    tree = ast.parse(source)
    if any(_is_contract(node) for node in tree.body):
        return []
    code = [node for node in tree.body if not (isinstance(node, ast.FunctionDef) and node.name == "downgrade")]
    found = []
    for top in code:
        for node in ast.walk(top):
            if what := _taking(node):
                found.append(f"{node.lineno}: {what}")
    return found


def _is_contract(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Assign)
        and [ast.unparse(target) for target in node.targets] == ["CONTRACT"]
        and isinstance(node.value, ast.Constant)
        and node.value.value is True
    )


def _taking(node: ast.AST) -> str | None:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        name, keywords = node.func.attr, {keyword.arg: keyword.value for keyword in node.keywords}
        if name in _CALLS:
            return name
        if name == "alter_column" and (
            _ALTERS & keywords.keys() or ast.unparse(keywords.get("nullable", ast.Constant(1))) == "False"
        ):
            return "alter_column"
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        match = _SQL.search(node.value)
        return match[0] if match else None
    return None
