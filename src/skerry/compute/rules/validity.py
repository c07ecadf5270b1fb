"""What a workload must look like. Pure."""

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Final

from skerry.capacity.model import Scope
from skerry.compute.errors import InvalidWorkload
from skerry.compute.model import WorkloadSpec
from skerry.kernel.classes import CapacityClass
from skerry.kernel.errors import FieldError

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_TARGET: Final = re.compile(r"(/[^/\0]+)+")
MOST_NODES: Final = 100_000
MOST_PRIORITY: Final = 100


def require_valid(spec: WorkloadSpec) -> None:
    """Raises InvalidWorkload with all that is wrong."""
    errors = [*_numbers(spec), *_texts(spec), *_shares(spec), *_capacity(spec), *_mounts(spec), *_money(spec)]
    if errors:
        raise InvalidWorkload("; ".join(f"{error.path}: {error.message}" for error in errors), errors=errors)


def _numbers(spec: WorkloadSpec) -> Iterator[FieldError]:
    least = {
        "accelerators": (spec.accelerators, 0),
        "tasks": (spec.tasks, 1),
        "nodes": (spec.nodes, 1),
        "memory_bytes": (spec.memory_bytes, 1),
        "address_space_bytes": (spec.address_space_bytes, 1),
        "cpu_seconds": (spec.cpu_seconds, 1),
        "open_files": (spec.open_files, 1),
        "processes": (spec.processes, 1),
        "max_restarts": (spec.max_restarts, 0),
        "grace_seconds": (spec.grace_seconds, 0),
        "max_duration_seconds": (spec.max_duration_seconds, 1),
    }
    for name, (value, minimum) in least.items():
        if value is not None and value < minimum:
            yield FieldError(name, "out_of_range", f"must be at least {minimum}")
    if spec.nodes > MOST_NODES:
        yield FieldError("nodes", "out_of_range", f"must be at most {MOST_NODES}")
    if abs(spec.priority) > MOST_PRIORITY:
        yield FieldError("priority", "out_of_range", f"must be from -{MOST_PRIORITY} to {MOST_PRIORITY}")


def _texts(spec: WorkloadSpec) -> Iterator[FieldError]:
    if not spec.name or not spec.resource:
        yield FieldError("name", "missing", "a name and a resource are needed")
    if not spec.command or not spec.command[0]:
        yield FieldError("command", "missing", "there is no command")
    texts = {"command": spec.command, "env": spec.env.values(), "files": spec.files.values()}
    for path, values in texts.items():
        if any("\0" in value for value in values):
            yield FieldError(path, "unstorable_text", "it has a NUL character")
    for name in spec.env:
        if not _VARIABLE.fullmatch(name):
            yield FieldError(f"env.{name}", "bad_name", "letters, digits and underscore only")
    for name in spec.files:
        if not _FILE.fullmatch(name):
            yield FieldError(f"files.{name}", "bad_name", "letters, digits, dot, dash and underscore only")


def _shares(spec: WorkloadSpec) -> Iterator[FieldError]:
    """Every node of a gang has as much as the others."""
    if spec.nodes < 1:
        return
    for name, value in (("tasks", spec.tasks), ("accelerators", spec.accelerators)):
        if value % spec.nodes:
            near = sorted({value - value % spec.nodes, value + spec.nodes - value % spec.nodes} - {0})
            words = f"{value} {name} cannot be shared out evenly over {spec.nodes} nodes"
            yield FieldError(name, "uneven", f"{words}; ask for {' or '.join(map(str, near))}")


def _capacity(spec: WorkloadSpec) -> Iterator[FieldError]:
    if spec.scope not in list(Scope):
        yield FieldError("scope", "unknown_scope", f"must be one of {', '.join(Scope)}")
    reserved = spec.capacity_class is CapacityClass.RESERVED
    if reserved and spec.reservation is None:
        yield FieldError("reservation", "missing", "reserved capacity is that of a reservation: name it")
    if not reserved and spec.reservation is not None:
        words = f"it needs capacity class {CapacityClass.RESERVED}, not {spec.capacity_class}"
        yield FieldError("reservation", "not_reserved", words)
    for name, text in (("site", spec.site), ("sku", spec.sku)):
        if text is not None and not text.strip():
            yield FieldError(name, "missing", "must not be empty")


def _mounts(spec: WorkloadSpec) -> Iterator[FieldError]:
    seen: set[str] = set()
    for n, mount in enumerate(spec.mounts):
        path = f"mounts.{n}.target"
        if not _TARGET.fullmatch(mount.target) or any(part in (".", "..") for part in mount.target.split("/")):
            yield FieldError(path, "bad_path", "must be an absolute path, without `.`, `..` and a slash at its end")
        elif mount.target in seen:
            yield FieldError(path, "taken", f"{mount.target} is the target of another one")
        seen.add(mount.target)
        if not mount.name or "\0" in mount.name or ".." in mount.name.split("/") or mount.name.startswith("/"):
            yield FieldError(f"mounts.{n}.name", "bad_name", "must be a name, or a path below the shared folder")


def _money(spec: WorkloadSpec) -> Iterator[FieldError]:
    if spec.max_cost is None:
        return
    try:
        amount = Decimal(spec.max_cost)
    except InvalidOperation:
        yield FieldError("max_cost", "not_a_number", "must be a decimal, such as 12.50")
        return
    if not amount.is_finite() or amount <= 0:
        yield FieldError("max_cost", "out_of_range", "must be more than 0")
