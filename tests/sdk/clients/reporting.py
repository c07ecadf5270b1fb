"""What each client program does with what it saw: a line of JSON per check, for the test that started it."""

import json
import os
import traceback
from collections.abc import Callable
from typing import Any

CHAT = os.environ["CHAT_MODEL"]
EMBEDDING = os.environ.get("EMBEDDING_MODEL", "")
"""Empty where none is served."""
SLOW_KEY = os.environ["SLOW_KEY"]
"""A key with one request a minute."""
BASE_URL = os.environ["OPENAI_BASE_URL"]
ASK = "Name three birds."
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"animal": {"enum": ["cat", "bird"]}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["animal", "legs"],
    "additionalProperties": False,
}


def report(check: str, seen: dict[str, Any]) -> None:
    print(json.dumps({"check": check, **seen}), flush=True)


def run(checks: list[Callable[[], dict[str, Any]]]) -> None:
    """Each of them, whatever becomes of the others."""
    for check in checks:
        try:
            seen = check()
        except Exception:
            seen = {"failed": traceback.format_exc()[-3000:]}
        report(check.__name__, seen)


def error_of(call: Callable[[], object], tries: int = 1) -> dict[str, Any]:
    """The exception of one of so many calls: its class with those above it, and what it says."""
    for _ in range(tries):
        try:
            call()
        except Exception as error:
            classes = [f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__]
            return {"classes": classes, "status": getattr(error, "status_code", None), "message": str(error)}
    return {"classes": [], "status": None, "message": "nothing was raised"}
