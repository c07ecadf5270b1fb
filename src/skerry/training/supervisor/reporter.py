"""Reports on their way to the control plane: one after the other, again until answered, never in training's way."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx
import msgspec

from skerry.training.reporting import REPORTS_PATH, Command, ReportAnswer, TrainingReport, encode

TOKEN_FILE: Final = "node-token"  # noqa: S105 - a file's name
_TIMEOUT_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 10.0
_log = logging.getLogger(__name__)


class Reporter:
    """`make(seq)` gives the next report, None while there is nothing new; `command` gets what the answers ask for."""

    def __init__(
        self,
        url: str | None,
        files: Path,
        make: Callable[[int], TrainingReport | None],
        command: Callable[[Command], None],
        *,
        every_seconds: float = 1.0,
    ) -> None:
        self._url = url
        self._files = files
        self._make = make
        self._command = command
        self._every = every_seconds
        self._seq = 0
        self._pending: bytes | None = None
        self._wake = asyncio.Event()

    def hurry(self) -> None:
        """Something happened that people wait for."""
        self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        if self._url is None:
            return
        pause = self._every
        async with httpx.AsyncClient(base_url=self._url, timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                self._wake.clear()
                heard = await self._once(client)
                pause = self._every if heard else min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def last_words(self, seconds: float) -> None:
        """Send what is left, as far as that goes in this time."""
        if self._url is None:
            return
        deadline = time.monotonic() + seconds
        async with httpx.AsyncClient(
            base_url=self._url, timeout=min(_TIMEOUT_SECONDS, seconds), trust_env=False
        ) as client:
            while time.monotonic() < deadline:
                if await self._once(client):
                    if self._pending is None and not await self._more(client):
                        return
                else:
                    await asyncio.sleep(0.2)

    async def _more(self, client: httpx.AsyncClient) -> bool:
        seq = self._seq
        await self._once(client)
        return self._seq != seq

    async def _once(self, client: httpx.AsyncClient) -> bool:
        """False: it was not answered, and will be sent again as it is."""
        if self._pending is None:
            report = self._make(self._seq + 1)
            if report is None:
                return True
            self._seq += 1
            self._pending = encode(report)
        try:
            answer = await client.post(REPORTS_PATH, content=self._pending, headers=self._headers())
        except httpx.HTTPError as error:
            _log.debug("no answer to a report: %s", error)
            return False
        if answer.status_code in (400, 413, 422):
            _log.warning("a report was refused (%s): %s", answer.status_code, answer.text[:500])
        elif not answer.is_success:
            return False
        else:
            self._hear(answer.content)
        self._pending = None
        return True

    def _hear(self, body: bytes) -> None:
        try:
            answer = msgspec.json.decode(body, type=ReportAnswer)
        except msgspec.MsgspecError:
            return
        if answer.command is not None:
            self._command(answer.command)

    def _headers(self) -> dict[str, str]:
        """The token is read anew each time: it is renewed while we run."""
        try:
            token = (self._files / TOKEN_FILE).read_text().strip()
        except OSError:
            token = ""
        return {"authorization": f"Bearer {token}", "content-type": "application/json"}
