"""Where an attempt's time went. All times are milliseconds on one clock, integers, so that the parts are the whole.

Time is booked when something ends: a step, a generation, the attempt. A step that was done before (its number is not
above the highest one reached) is `redone`; what lies between the last step and the known loss of a rank is `detection`;
from there to the next step it is `restart`.

Not charged are the time until ranks were first started and what a fault of ours cost: detection, restart, redone steps.
Two limits keep a program's own word from making its time free: a restart of ours is free for at most `FREE_RESTART_MS`,
and until the ranks are there again where no step was ever told; steps redone are free for no longer than there was
progress to redo. Steps that an earlier attempt had reached (`reached_step`) are redone and charged: what a lost attempt
took with it is taken off there.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from skerry.training.reporting import Goodput, Loss, LostTime

FREE_RESTART_MS: Final = 900_000


class _Phase(StrEnum):
    """What is going on between two bookings."""

    STARTUP = "startup"
    STEPPING = "stepping"
    RESTART = "restart"
    STOPPING = "stopping"
    ENDED = "ended"


@dataclass(slots=True)
class _Stretch:
    loss: Loss
    start: int
    end: int
    free: bool


class Ledger:
    """The account of one attempt. Times given to it never go back; where they do, they count as the latest one."""

    def __init__(self, begun_at: int, *, reached_step: int = 0) -> None:
        self._begun = self._mark = begun_at
        self._phase = _Phase.STARTUP
        self._reached = reached_step
        self._current = 0
        self._stepped = False
        self._ranks_started = False
        self._ours = False
        self._restart_free_until = 0
        self._saving = 0
        self._productive = 0
        self._redone_free = 0
        self._losses: dict[Loss, int] = {}
        self._free = 0
        self._open: _Stretch | None = None
        self._closed: list[LostTime] = []

    @property
    def reached(self) -> int:
        """The highest step, earlier attempts included."""
        return self._reached

    def started(self, at: int) -> None:
        """The ranks of a generation run."""
        if self._phase is _Phase.STARTUP and not self._ranks_started:
            self._book(at, Loss.STARTUP, free=True)
        elif self._phase is _Phase.RESTART:
            self._book(at, Loss.RESTART, free=self._ours)
            self._restart_free_until = at + FREE_RESTART_MS if self._stepped else at
        self._ranks_started = True

    def step(self, at: int, number: int) -> None:
        """The gang has ended a step."""
        if self._phase is _Phase.STARTUP:
            self._book(at, Loss.STARTUP, free=False)
        elif self._phase is _Phase.RESTART:
            self._book_restart(at)
        elif self._phase is _Phase.STEPPING:
            self._book_step(at, number)
        if self._phase in (_Phase.STARTUP, _Phase.RESTART):
            self._phase = _Phase.STEPPING
        self._stepped = True
        self._current = number
        self._reached = max(self._reached, number)

    def saved(self, stall: int) -> None:
        """A checkpoint has held up the step that is under way for so long."""
        self._saving += max(0, stall)

    def lost(self, at: int, *, hang: bool, ours: bool) -> None:
        """Ranks are known to be lost, or hung."""
        if self._phase is _Phase.STARTUP:
            self._book(at, Loss.STARTUP, free=not self._ranks_started)
        elif self._phase is _Phase.RESTART:
            self._book_restart(at)
        elif self._phase is _Phase.STEPPING:
            self._book(at, Loss.HANG if hang else Loss.DETECTION, free=ours)
        if self._phase is not _Phase.STOPPING:
            self._phase = _Phase.RESTART
        self._ours, self._saving = ours, 0

    def stopping(self, at: int) -> None:
        self._settle(at)
        self._phase = _Phase.STOPPING

    def ended(self, at: int, *, well: bool) -> None:
        """`well`: all ranks exited with 0. What they did after the last step was work too."""
        if well and self._phase is not _Phase.STOPPING:
            self._book(at, None)
        else:
            self._settle(at)
        self._phase = _Phase.ENDED
        self._close()

    def goodput(self, now: int) -> Goodput:
        """Up to now; what is under way counts as what it looks like."""
        losses, productive = dict(self._losses), self._productive
        under_way = max(0, now - self._mark)
        loss = self._looks_like()
        if loss is None:
            productive += under_way
        elif under_way:
            losses[loss] = losses.get(loss, 0) + under_way
        total = productive + sum(losses.values())
        return Goodput(total_ms=total, productive_ms=productive, losses=losses, ours_ms=self._free)

    def news(self) -> tuple[LostTime, ...]:
        """Stretches that are over and were not told yet."""
        found, self._closed = tuple(self._closed), []
        return found

    def _looks_like(self) -> Loss | None:
        return {
            _Phase.STARTUP: Loss.STARTUP,
            _Phase.RESTART: Loss.RESTART,
            _Phase.STOPPING: Loss.STOPPING,
        }.get(self._phase)

    def _settle(self, at: int) -> None:
        """Book what was under way when it was cut off in order."""
        if self._phase is _Phase.STARTUP:
            self._book(at, Loss.STARTUP, free=not self._ranks_started)
        elif self._phase is _Phase.RESTART:
            self._book_restart(at)
        elif self._phase in (_Phase.STEPPING, _Phase.STOPPING):
            self._book(at, Loss.STOPPING)

    def _book_restart(self, at: int) -> None:
        if self._ours and self._restart_free_until > self._mark:
            self._book(min(at, self._restart_free_until), Loss.RESTART, free=True)
        self._book(at, Loss.RESTART, free=False)

    def _book_step(self, at: int, number: int) -> None:
        if self._current < self._reached < number:
            # Told of several steps at once, of which the first were done before.
            share = (self._reached - self._current) / (number - self._current)
            self._book_step(self._mark + int(max(0, at - self._mark) * share), self._reached)
        stall = min(self._saving, max(0, at - self._mark))
        self._saving = 0
        if number > self._reached:
            self._book(at, None, stall=stall)
            return
        free = self._ours and self._redone_free + at - self._mark <= self._productive
        if free:
            self._redone_free += max(0, at - self._mark)
        self._book(at, Loss.REDONE, free=free)

    def _book(self, at: int, loss: Loss | None, *, free: bool = False, stall: int = 0) -> None:
        """What lies between the mark and `at` went to `loss` (None: progress)."""
        at = max(at, self._mark)
        length = at - self._mark
        if loss is None:
            self._productive += length - stall
            if stall:
                self._losses[Loss.CHECKPOINT] = self._losses.get(Loss.CHECKPOINT, 0) + stall
            self._close()
        elif length:
            self._losses[loss] = self._losses.get(loss, 0) + length
            self._free += length if free else 0
            self._extend(loss, at, free)
        self._mark = at

    def _extend(self, loss: Loss, at: int, free: bool) -> None:
        now = self._open
        if now is not None and now.loss is loss and now.free == free:
            now.end = at
            return
        self._close()
        self._open = _Stretch(loss, self._mark, at, free)

    def _close(self) -> None:
        if self._open is not None:
            one = self._open
            self._closed.append(LostTime(loss=one.loss, started_at=one.start, ended_at=one.end, not_charged=one.free))
            self._open = None
