"""What a workload must look like. Pure."""

import re
from typing import Final

from skerry.compute.errors import InvalidWorkload
from skerry.compute.model import WorkloadSpec
from skerry.kernel.errors import FieldError

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def require_valid(spec: WorkloadSpec) -> None:
    """Raises InvalidWorkload with all that is wrong."""
    errors = [*_numbers(spec), *_texts(spec)]
    if errors:
        raise InvalidWorkload("; ".join(f"{error.path}: {error.message}" for error in errors), errors=errors)


def _numbers(spec: WorkloadSpec) -> list[FieldError]:
    least = {
        "accelerators": (spec.accelerators, 0),
        "tasks": (spec.tasks, 1),
        "memory_bytes": (spec.memory_bytes, 1),
        "address_space_bytes": (spec.address_space_bytes, 1),
        "cpu_seconds": (spec.cpu_seconds, 1),
        "open_files": (spec.open_files, 1),
        "processes": (spec.processes, 1),
        "max_restarts": (spec.max_restarts, 0),
        "grace_seconds": (spec.grace_seconds, 0),
    }
    return [
        FieldError(name, "out_of_range", f"must be at least {minimum}")
        for name, (value, minimum) in least.items()
        if value is not None and value < minimum
    ]


def _texts(spec: WorkloadSpec) -> list[FieldError]:
    errors = []
    if not spec.name or not spec.resource:
        errors.append(FieldError("name", "missing", "a name and a resource are needed"))
    if not spec.command or not spec.command[0]:
        errors.append(FieldError("command", "missing", "there is no command"))
    texts = {"command": spec.command, "env": spec.env.values(), "files": spec.files.values()}
    for path, values in texts.items():
        if any("\0" in value for value in values):
            errors.append(FieldError(path, "unstorable_text", "it has a NUL character"))
    for name in spec.env:
        if not _VARIABLE.fullmatch(name):
            errors.append(FieldError(f"env.{name}", "bad_name", "letters, digits and underscore only"))
    for name in spec.files:
        if not _FILE.fullmatch(name):
            errors.append(FieldError(f"files.{name}", "bad_name", "letters, digits, dot, dash and underscore only"))
    return errors
