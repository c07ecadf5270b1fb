"""What an instance writes to its console: its start script's output and its SSH server's log, into the workload's
log."""

import asyncio
import re
import sys
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

from skerry.compute.instances.host.spec import StartScriptState

_NOISE: Final = re.compile(r"kex_exchange_identification|Connection (reset|closed) by \S+ port \d+$")
"""Who looked whether it answers, ourselves for one."""
_LINE_BYTES: Final = 64 << 10
_TAIL_LINES: Final = 20
_TAIL_CHARACTERS: Final = 2000


class Console:
    """Reads lines and passes them on. `mark` begins the line that says how the start script ended."""

    def __init__(self, mark: str, *, has_script: bool, out: TextIO | None = None) -> None:
        self.start_script = StartScriptState.RUNNING if has_script else StartScriptState.NONE
        self.start_script_exit: int | None = None
        self.template_url = ""
        self.last_words: deque[str] = deque(maxlen=_TAIL_LINES)
        """Of the instance's own log, for when it cannot be brought up."""
        self._output: deque[str] = deque(maxlen=_TAIL_LINES)
        self.mark = mark
        self._out = out or sys.stdout

    @property
    def tail(self) -> str:
        """Last lines of the start script."""
        return "\n".join(self._output)[-_TAIL_CHARACTERS:]

    def script_line(self, line: str) -> None:
        word, _, code = line.partition(" ")
        if word == self.mark and self.start_script is StartScriptState.RUNNING:
            self.start_script_exit = int(code) if code.isdigit() else 1
            well = self.start_script_exit == 0
            self.start_script = StartScriptState.SUCCEEDED if well else StartScriptState.FAILED
            self._say(f"start script ended with exit code {self.start_script_exit}")
            return
        if self.start_script is StartScriptState.RUNNING:
            self._output.append(line)
        self._say(f"start: {line}")

    def log_line(self, line: str) -> None:
        if _NOISE.search(line):
            return
        self.last_words.append(line)
        self._say(line if line.startswith("skerry: ") else f"sshd: {line}")

    def _say(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()


async def pump(descriptor: int, take: Callable[[str], None]) -> None:
    """Hand over each line that comes through a pipe, until it ends. The descriptor is closed then."""
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    pipe = open(descriptor, "rb", buffering=0)  # noqa: SIM115, ASYNC230 - the transport closes it
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    while True:
        try:
            line = await reader.readline()
        except ValueError:  # longer than a line may be: its beginning was dropped
            continue
        if not line:
            return
        text = line.decode(errors="replace").rstrip("\r\n")
        if text:
            take(text)
