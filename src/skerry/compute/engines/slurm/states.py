"""From what Slurm says of a job, and what its nodes wrote, to where the gang is. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from skerry.compute.engines.base import EndCause, GangState, GangStatus, RankEnd, RankState
from skerry.compute.engines.embedded.ending import decisive
from skerry.compute.engines.embedded.records import RankRecord
from skerry.compute.engines.slurm.accounting import Accounted
from skerry.compute.engines.slurm.ledger import JobRecord
from skerry.compute.engines.slurm.parsing import Job
from skerry.compute.model import Outcome

_NODE_FAILED: Final = frozenset({"NODE_FAIL", "BOOT_FAIL"})
_OURS: Final = frozenset({EndCause.ENGINE_STOPPED, EndCause.PEER_ENDED, EndCause.UNOBSERVED})
_WITHOUT_WORD: Final[Mapping[str, tuple[EndCause, Outcome, str]]] = {
    "CANCELLED": (EndCause.ENGINE_STOPPED, Outcome.LOST, "its Slurm job was cancelled by somebody else"),
    "PREEMPTED": (EndCause.ENGINE_STOPPED, Outcome.PREEMPTED, "Slurm preempted its job"),
    "TIMEOUT": (EndCause.ENGINE_STOPPED, Outcome.LOST, "Slurm ended its job at its time limit"),
    "DEADLINE": (EndCause.ENGINE_STOPPED, Outcome.LOST, "Slurm ended its job at its deadline"),
    "OUT_OF_MEMORY": (EndCause.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY, "killed by the kernel at its memory limit"),
}


@dataclass(frozen=True, slots=True)
class Sight:
    """One look. `job` None: Slurm, which answered, does not have it (any more).

    `alive`: a node of it still gives signs of life.
    """

    record: JobRecord
    job: Job | None
    ranks: Mapping[int, RankRecord]
    log_bytes: Mapping[int, int]
    alive: bool
    at: datetime
    last_words: str = ""
    """The last line of its job's output, where a node may have ended it without a word in its folder."""


def gang_state(seen: Sight) -> GangState:
    """ENDED only when nothing of it runs any more, as far as its nodes or Slurm can say."""
    record = seen.record
    if not record.places:
        at = record.cancelled_at or record.created_at
        end = RankEnd(EndCause.CANCELLED, Outcome.CANCELLED, at, message="it was cancelled before it was started")
        return GangState(record.attempt, GangStatus.ENDED, ref(record), (), end)
    ends = {rank: found.end for rank, found in seen.ranks.items() if found.end is not None}
    if is_over(seen):
        ends = {rank: _final_end(seen, ends.get(rank)) for rank in range(len(record.places))}
        status = GangStatus.ENDED
    else:
        status = _status(seen, bool(ends))
    return GangState(
        attempt=record.attempt,
        status=status,
        ref=ref(record),
        ranks=tuple(_rank(seen, rank, ends.get(rank)) for rank in range(len(record.places))),
        end=decisive(list(ends.values())) if status is GangStatus.ENDED else None,
        reason=_reason(seen) if status is GangStatus.PENDING else "",
    )


def ref(record: JobRecord) -> str:
    """The engine's name for it: its own, since Slurm's number may not be known yet."""
    return f"slurm/{record.attempt}"


def is_over(seen: Sight) -> bool:
    if all(rank in seen.ranks and seen.ranks[rank].end for rank in range(len(seen.record.places))):
        return True
    return (seen.job is None or seen.job.over) and not seen.alive


def is_lost(seen: Sight) -> bool:
    """Slurm holds its nodes for it no longer, yet something of it gives signs of life: it has to be ended."""
    return (seen.job is None or seen.job.over) and seen.alive


def is_untold(seen: Sight) -> bool:
    """It is over, and how and when not all of its nodes have said."""
    if not seen.record.places or not is_over(seen):
        return False
    ends = [found.end for found in seen.ranks.values() if found.end is not None]
    return len(ends) < len(seen.record.places) or any(end.cause is EndCause.ENGINE_STOPPED for end in ends)


def told_by(seen: Sight, books: Accounted | None) -> Sight:
    """As Slurm's accounting has it, which knows the end to the second, and jobs that `squeue` has forgotten."""
    if books is None or books.end is None:
        return seen
    return replace(seen, job=replace(books.job, reason=seen.job.reason if seen.job else ""), at=min(seen.at, books.end))


def _status(seen: Sight, some_ended: bool) -> GangStatus:
    if seen.record.cancelled_at is not None or some_ended or is_lost(seen):
        return GangStatus.STOPPING
    started = any(found.started_at is not None for found in seen.ranks.values())
    return GangStatus.RUNNING if started else GangStatus.PENDING


def _final_end(seen: Sight, said: RankEnd | None) -> RankEnd:
    """What its node wrote, unless that only tells of what Slurm did; else what Slurm says."""
    if said is not None and (said.cause not in _OURS or seen.record.cancelled_at is not None):
        return said
    by_slurm = _by_slurm(seen)
    if said is None:
        return by_slurm
    if said.cause is EndCause.ENGINE_STOPPED and by_slurm.cause is EndCause.UNOBSERVED:
        return replace(by_slurm, at=said.at, exit_code=said.exit_code, signal=said.signal)
    return said


def _by_slurm(seen: Sight) -> RankEnd:
    if seen.record.cancelled_at is not None:
        return RankEnd(EndCause.CANCELLED, Outcome.CANCELLED, seen.at, message="it was told to end")
    if seen.record.fenced:
        return _lost(seen, f"its node was fenced: {seen.record.fenced}")
    if seen.job is None:
        return _lost(seen, "Slurm does not know its job any more")
    if seen.job.state in _NODE_FAILED:
        return _lost(seen, f"a node of it failed (Slurm: {seen.job.state})")
    if seen.job.state in _WITHOUT_WORD:
        cause, outcome, message = _WITHOUT_WORD[seen.job.state]
        return RankEnd(cause, outcome, seen.at, message=message)
    why = "" if seen.job.reason in ("", "NonZeroExitCode") else f", {seen.job.reason}"
    words = f": {seen.last_words}" if seen.last_words else ""
    return _lost(seen, f"its node ended it without a word (Slurm: {seen.job.state}{why}){words}")


def _lost(seen: Sight, message: str) -> RankEnd:
    return RankEnd(EndCause.UNOBSERVED, Outcome.LOST, seen.at, message=message)


def _rank(seen: Sight, rank: int, end: RankEnd | None) -> RankState:
    found = seen.ranks.get(rank)
    return RankState(
        rank=rank,
        node=seen.record.places[rank],
        pid=found.pid if found is not None else None,
        started_at=found.started_at if found is not None else None,
        report=found.report if found is not None else None,
        log_bytes=seen.log_bytes.get(rank, 0),
        end=end,
    )


def _reason(seen: Sight) -> str:
    if seen.job is None:
        return "It is not known yet whether Slurm has it"
    if seen.job.queued:
        return f"Slurm has it in its queue: {seen.job.reason or 'Priority'}"
    return "Its nodes are starting it"
