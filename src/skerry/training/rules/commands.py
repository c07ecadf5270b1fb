"""What a job's command means: which program runs in every rank, and whether it agrees with the job's fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from skerry.training.spec import Launcher

_TORCHRUN_MODULES: Final = frozenset({"torch.distributed.run", "torch.distributed.launch"})
# fmt: off
_VALUE_OPTIONS: Final = frozenset({
    "nnodes", "nproc-per-node", "rdzv-backend", "rdzv-endpoint", "rdzv-id", "rdzv-conf", "max-restarts",
    "monitor-interval", "start-method", "event-log-handler", "role", "log-dir", "redirects", "tee",
    "local-ranks-filter", "duplicate-stdout-filters", "duplicate-stderr-filters", "node-rank", "master-addr",
    "master-port", "local-addr", "logs-specs", "numa-binding", "signals-to-handle", "shutdown-timeout",
})
# fmt: on
_FLAGS: Final = frozenset({"standalone", "module", "no-python", "run-path", "virtual-local-rank", "use-env"})
_SHORT: Final = {"m": "module", "r": "redirects", "t": "tee"}
_ANY_COUNT: Final = frozenset({"auto", "gpu", "cpu", "xpu"})
# Of python's own options these change nothing here: output is passed on line by line anyway.
_HARMLESS: Final = frozenset({"-u"})


class ProgramKind(StrEnum):
    """How a rank is started."""

    SCRIPT = "script"
    """A Python file, forked from the fork server."""
    MODULE = "module"
    """`python -m`, forked from the fork server."""
    EXECUTABLE = "executable"
    """Anything else: executed as it is."""


@dataclass(frozen=True, slots=True)
class Program:
    """`target` is a path, a module's name or what PATH is searched for."""

    kind: ProgramKind
    target: str
    arguments: tuple[str, ...] = ()
    virtual_local_rank: bool = False
    """torchrun's option of that name: LOCAL_RANK is 0 and only the rank's own devices are seen."""


class BadCommand(ValueError):
    """`field` is that of the job which would have to change, or the command itself."""

    def __init__(self, field: str, code: str, message: str) -> None:
        super().__init__(message)
        self.field, self.code, self.message = field, code, message


def parse(command: Sequence[str], launcher: Launcher, *, nodes: int, tasks_per_node: int) -> Program:
    """Raises BadCommand where it is empty, or where torchrun's counts are not those of the fields."""
    if not command or not command[0]:
        raise BadCommand("command", "empty", "The command is empty: name a script or a program.")
    if launcher is Launcher.NONE:
        return Program(ProgramKind.EXECUTABLE, command[0], tuple(command[1:]))
    arguments = _of_torchrun(command)
    if arguments is not None:
        return _torchrun(arguments, nodes, tasks_per_node)
    if is_python(command[0]):
        return _python(command)
    if _is_script(command[0]):
        return Program(ProgramKind.SCRIPT, command[0], tuple(command[1:]))
    return Program(ProgramKind.EXECUTABLE, command[0], tuple(command[1:]))


def is_python(word: str) -> bool:
    """`python`, `python3`, `python3.11`: the environment's own. A path to one is another environment, and not meant."""
    name = word.removeprefix("python")
    return name != word and all(part.isdigit() for part in name.split(".") if part)


def _is_script(word: str) -> bool:
    return PurePath(word).suffix == ".py"


def _of_torchrun(command: Sequence[str]) -> list[str] | None:
    """The arguments of torchrun, if that is what begins the command."""
    if command[0] == "torchrun":
        return list(command[1:])
    if is_python(command[0]):
        rest = [word for word in command[1:3] if word not in _HARMLESS]
        skipped = len(command[1:3]) - len(rest)
        words = list(command[1 + skipped :])
        if len(words) >= 2 and words[0] == "-m" and words[1] in _TORCHRUN_MODULES:
            return words[2:]
    return None


def _torchrun(words: list[str], nodes: int, tasks_per_node: int) -> Program:
    options, rest = _options(words)
    _same_count("nodes", "--nnodes", options.get("nnodes"), nodes)
    _same_count("tasks_per_node", "--nproc-per-node", options.get("nproc-per-node"), tasks_per_node)
    if not rest:
        raise BadCommand("command", "no_script", "torchrun is given no script to run.")
    if "no-python" in options:
        kind = ProgramKind.EXECUTABLE
    else:
        kind = ProgramKind.MODULE if "module" in options else ProgramKind.SCRIPT
    return Program(kind, rest[0], tuple(rest[1:]), virtual_local_rank="virtual-local-rank" in options)


def _options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """torchrun's own options by their long names, and all that follows them."""
    found: dict[str, str] = {}
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        if words[at] == "--":
            at += 1
            break
        name, glued, value = _named(words[at])
        at += 1
        if name in _FLAGS:
            found[name] = ""
            continue
        if not glued:
            if at == len(words):
                raise BadCommand("command", "option_without_value", f"torchrun's --{name} is given no value.")
            value, at = words[at], at + 1
        found[name] = value
    return found, words[at:]


def _named(word: str) -> tuple[str, bool, str]:
    """(long name, whether a value is glued to it, that value). As argparse: a beginning that is unique will do."""
    if not word.startswith("--"):
        name = _SHORT.get(word[1])
        if name is None:
            raise BadCommand("command", "unknown_option", f"torchrun has no option {word}.")
        value = word[2:].removeprefix("=")
        return name, bool(value), value
    given, equals, value = word[2:].partition("=")
    given = given.replace("_", "-")
    known = _VALUE_OPTIONS | _FLAGS
    matches = [given] if given in known else sorted(name for name in known if name.startswith(given))
    if len(matches) != 1:
        hint = f"; did you mean one of {', '.join('--' + name for name in matches)}?" if matches else "."
        raise BadCommand("command", "unknown_option", f"torchrun has no option --{given}{hint}")
    return matches[0], bool(equals), value


def _same_count(field: str, option: str, said: str | None, have: int) -> None:
    if said is None or (field == "tasks_per_node" and said in _ANY_COUNT):
        return
    low, _, high = said.partition(":")
    if not low.isdigit() or (high and not high.isdigit()):
        raise BadCommand("command", "bad_count", f"torchrun's {option} is {said!r}, which is no count.")
    if not int(low) <= have <= int(high or low):
        raise BadCommand(
            field,
            "count_differs",
            f"The command says {option}={said}, the job's {field} is {have}: make them agree, or leave {option} out.",
        )


def _python(command: Sequence[str]) -> Program:
    words = list(command[1:])
    while words and words[0] in _HARMLESS:
        words.pop(0)
    if len(words) >= 2 and words[0] == "-m":
        return Program(ProgramKind.MODULE, words[1], tuple(words[2:]))
    if words and not words[0].startswith("-"):
        return Program(ProgramKind.SCRIPT, words[0], tuple(words[1:]))
    return Program(ProgramKind.EXECUTABLE, command[0], tuple(command[1:]))
