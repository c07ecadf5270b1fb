"""Whether the kernel has ended something here because memory ran out."""

import re
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_COUNT: Final = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class OutOfMemory:
    """The counter of our own control group where it can be read, else the host's: better than nothing, since it is only
    asked when a rank was ended by SIGKILL.
    """

    def __init__(self) -> None:
        self._file = _counter()
        self._seen = self._read()

    def happened(self) -> bool:
        """Since the last time it was asked."""
        before, self._seen = self._seen, self._read()
        return self._seen > before

    def _read(self) -> int:
        try:
            match = _COUNT.search(self._file.read_text())
        except OSError:
            return 0
        return int(match[1]) if match else 0


def _counter() -> Path:
    candidates = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            candidates.append(_ROOT / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            candidates.append(_ROOT / "memory" / path.lstrip("/") / "memory.oom_control")
    return next((path for path in candidates if path.is_file()), Path("/proc/vmstat"))
