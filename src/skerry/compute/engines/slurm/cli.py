"""Slurm's commands: each in a process of its own, under a time-out, with an environment of three variables.

"No answer" (a time-out, no connection) is EngineUnavailable, and whatever was asked may have happened. A command that
answered and said no is SlurmError.
"""

import asyncio
import re
import tempfile
from contextlib import suppress
from time import monotonic
from typing import Final

from skerry.compute.engines.base import EngineRefused, EngineUnavailable
from skerry.compute.engines.slurm.config import SlurmConfig

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_AWAY: Final = re.compile(
    r"unable to contact slurm controller|connection refused|socket timed out|timed out on send/recv|connect failure"
    r"|communication connection failure|backup controller in standby|zero bytes were transmitted|unexpected message"
    r"|slurmctld.* (down|not responding)|unable to establish controller|munge|configuration source"
    r"|temporarily unable to accept job|message receive failure|controller not in primary mode"
    r"|resource temporarily unavailable|connection reset|broken pipe|interrupted system call|no route to host"
    r"|connection timed out|transport endpoint is not connected|unspecified error|protocol authentication error",
    re.IGNORECASE,
)
_PREFIX: Final = re.compile(r"^\w+: (error: |fatal: )?", re.MULTILINE)
_PAUSE_SECONDS: Final = 1.0


class SlurmError(EngineRefused):
    """Slurm's own words."""

    code = "engine_refused"


class SlurmCli:
    """After a call that went unanswered, others fail at once for a second instead of piling up."""

    def __init__(self, config: SlurmConfig) -> None:
        self._environment = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC", "SLURM_TIME_FORMAT": "%s"}
        if config.conf is not None:
            self._environment["SLURM_CONF"] = str(config.conf)
        self._seconds = config.call_seconds
        self._away_until = 0.0
        self._away_because = ""

    async def run(self, *argv: str, stdin: str = "") -> str:
        """Its standard output. Raises EngineUnavailable, SlurmError."""
        if monotonic() < self._away_until:
            raise EngineUnavailable(self._away_because)
        process = await self._start(argv, stdin)
        try:
            async with asyncio.timeout(self._seconds):
                out, err = await process.communicate()
        except TimeoutError:
            raise self._away(f"Slurm has not answered `{argv[0]}` within {self._seconds:g} s.") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode == 0:
            return out.decode(errors="replace")
        words = _PREFIX.sub("", err.decode(errors="replace")).strip() or out.decode(errors="replace").strip()
        if _AWAY.search(words) or _only_asks(argv):
            raise self._away(f"Slurm does not answer: {_first_line(words)}")
        raise SlurmError(f"{argv[0]}: {_first_line(words) or f'exit code {process.returncode}'}")

    async def _start(self, argv: tuple[str, ...], stdin: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        try:
            # A file: uvloop's pipe to a program that does not read raises.
            with tempfile.TemporaryFile() as given:
                given.write(stdin.encode())
                given.seek(0)
                return await asyncio.create_subprocess_exec(
                    *argv, stdin=given, stdout=pipe, stderr=pipe, env=self._environment, cwd="/"
                )
        except FileNotFoundError:
            raise EngineUnavailable(f"Slurm's `{argv[0]}` is not installed here.") from None

    def _away(self, why: str) -> EngineUnavailable:
        self._away_until, self._away_because = monotonic() + _PAUSE_SECONDS, why
        return EngineUnavailable(why)


def _only_asks(argv: tuple[str, ...]) -> bool:
    """There is nothing in it that Slurm could refuse: where it fails, there is no answer."""
    return argv[0] in ("squeue", "sinfo") or argv[:2] == ("scontrol", "show")


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""
