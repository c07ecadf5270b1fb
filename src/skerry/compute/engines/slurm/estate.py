"""Nodes and reservations: Slurm's, read back after each change."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from skerry.compute.engines.base import (
    Capabilities,
    NodeCondition,
    NodeNotReady,
    NodeReservation,
    NodeState,
    NotFenced,
    ReservationRefused,
)
from skerry.compute.engines.slurm import parsing, probe, setup
from skerry.compute.engines.slurm.cli import SlurmCli, SlurmError
from skerry.compute.engines.slurm.config import SlurmConfig
from skerry.compute.engines.slurm.node import end_marked
from skerry.kernel.ids import AttemptId

_SWEEP_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.05
_FRESH_SECONDS: Final = 5.0


class Estate:
    """Only Slurm's own user or root may change nodes and reservations."""

    def __init__(self, config: SlurmConfig, cli: SlurmCli) -> None:
        self._config = config
        self._cli = cli
        self._here = config.one_host
        self._looking = asyncio.Lock()
        self._known: tuple[float, Capabilities] | None = None

    async def capabilities(self, engine: str) -> Capabilities:
        """What all nodes can that have joined (`probe.py`), and what is wrong with the set-up. A few seconds old."""
        async with self._looking:
            if self._known is None or monotonic() - self._known[0] > _FRESH_SECONDS:
                self._known = monotonic(), await self._capabilities(engine)
        return self._known[1]

    async def _capabilities(self, engine: str) -> Capabilities:
        found = probe.read_all(self._config.shared)
        text, nodes = await asyncio.gather(self._cli.run("scontrol", "show", "config"), self.nodes())
        wrong = setup.problems(setup.settings_of(text), nodes, self._config.partition, shared=self._config.is_shared)
        return Capabilities(
            engine=engine,
            isolation=bool(found) and all(one.isolation for one in found),
            memory_limit=bool(found) and all(one.memory for one in found),
            process_limit=bool(found) and all(one.processes for one in found),
            drain=True,
            reserve=True,
            sets_aside=True,
            fence=self._here or bool(self._config.fence_command),
            problems=wrong,
        )

    async def nodes(self) -> Sequence[NodeState]:
        text = await self._cli.run("sinfo", "--noheader", "--Node", "--format", parsing.SINFO_FORMAT)
        found = parsing.nodes(text, self._config.partition)
        self._here = self._config.one_host or all(setup.is_here(node.address) for node in found)
        return found

    async def drain(self, node: str, reason: str) -> None:
        await self._require(node)
        words = " ".join(reason.split()) or "drained by Skerry"
        await self._cli.run("scontrol", "update", f"nodename={node}", "state=drain", f"reason={words}")

    async def resume(self, node: str) -> None:
        if (await self._require(node)).condition is NodeCondition.READY:
            return
        try:
            await self._cli.run("scontrol", "update", f"nodename={node}", "state=resume")
        except SlurmError:
            # Its daemon has come back meanwhile, and Slurm has taken it back by itself.
            if (await self._require(node)).condition is not NodeCondition.READY:
                raise
        end = monotonic() + self._config.call_seconds
        while not await self.answers(node) and monotonic() < end:  # it counts as silent until its daemon has answered
            await asyncio.sleep(_PAUSE_SECONDS)

    async def answers(self, node: str) -> bool:
        """Whether Slurm's daemon is there, so that its word for what runs can be taken."""
        return (await self._require(node)).condition is not NodeCondition.DOWN

    async def reservations(self) -> Sequence[NodeReservation]:
        """This installation's."""
        text = await self._cli.run("scontrol", "show", "reservation", "--oneliner")
        prefix = self._config.prefix
        return [
            replace(one, name=one.name.removeprefix(prefix))
            for one in parsing.reservations(text)
            if one.name.startswith(prefix)
        ]

    async def reserve(self, reservation: NodeReservation) -> None:
        wanted = replace(reservation, nodes=tuple(sorted(set(reservation.nodes))))
        for node in wanted.nodes:
            await self._require(node)
        made = await self._find(wanted.name)
        if made is None:
            try:
                await self._create(wanted)
            except SlurmError as error:
                raise ReservationRefused(error.detail) from error
            made = await self._find(wanted.name)
            if made is not None and not _same(made, wanted):
                await self.release(wanted.name)
        elif wanted.amend and not _same(made, wanted):
            await self._amend(made, wanted)
            made = await self._find(wanted.name)
        if made is None or not _same(made, wanted):
            had = "nothing" if made is None else f"{', '.join(made.nodes)} from {made.start} to {made.end}"
            raise ReservationRefused(f"Reservation {wanted.name} has {had}, which is not what was asked for.")

    async def release(self, name: str) -> None:
        end = monotonic() + self._config.call_seconds
        while await self._find(name) is not None:
            try:
                await self._cli.run("scontrol", "delete", f"ReservationName={self._config.prefix}{name}")
            except SlurmError as error:
                # Jobs that have ended count as there until Slurm has cleared up after them.
                if monotonic() > end or "in use" not in error.detail:
                    raise ReservationRefused(error.detail) from error
                await asyncio.sleep(_PAUSE_SECONDS * 4)

    async def end_all_on(self, node: str, there: Mapping[AttemptId, tuple[str, ...]]) -> bool:
        """End what attempts have on a node by other means than Slurm's. Whether that proves that nothing is left.

        `there`: for each attempt the node of each of its ranks.
        """
        if self._config.fence_command:
            return await self._run_fence(node)
        if not self._here:
            return False
        end = monotonic() + _SWEEP_SECONDS
        while True:
            left = [
                end_marked(self._config.mark, attempt, {rank for rank, place in enumerate(places) if place == node})
                for attempt, places in there.items()
            ]
            if not any(left):
                return True
            if monotonic() > end:
                return False
            await asyncio.sleep(_PAUSE_SECONDS)

    def not_fenced(self, node: str) -> NotFenced:
        return NotFenced(f"It could not be proved that nothing runs on {node} any more: switch it off, then try again.")

    async def _run_fence(self, node: str) -> bool:
        process = await asyncio.create_subprocess_exec(*self._config.fence_command, node)
        try:
            async with asyncio.timeout(self._config.fence_seconds):
                return await process.wait() == 0
        except TimeoutError:
            process.kill()
            await process.wait()
            return False

    async def _create(self, wanted: NodeReservation) -> None:
        options = {
            "ReservationName": self._config.prefix + wanted.name,
            "Nodes": ",".join(wanted.nodes),
            "StartTime": "now" if wanted.start <= datetime.now(UTC) else _local(wanted.start),
            "EndTime": _local(wanted.end),
            "Users": self._config.submit_user,
            **({"PartitionName": self._config.partition} if self._config.partition else {}),
            # What runs there now, and what of ours begins before it or lasts longer, is our calendar's affair: it is
            # made to keep others out.
            "Flags": "IGNORE_JOBS,FLEX",
        }
        await self._cli.run("scontrol", "create", *(f"{name}={value}" for name, value in options.items()))

    async def _amend(self, made: NodeReservation, wanted: NodeReservation) -> None:
        options = {
            "ReservationName": self._config.prefix + wanted.name,
            "Nodes": ",".join(wanted.nodes),
            "EndTime": _local(wanted.end),
        }
        if made.start > datetime.now(UTC):
            options["StartTime"] = "now" if wanted.start <= datetime.now(UTC) else _local(wanted.start)
        try:
            await self._cli.run("scontrol", "update", *(f"{name}={value}" for name, value in options.items()))
        except SlurmError as error:
            raise ReservationRefused(error.detail) from error

    async def _find(self, name: str) -> NodeReservation | None:
        return next((one for one in await self.reservations() if one.name == name), None)

    async def _require(self, name: str) -> NodeState:
        found = next((node for node in await self.nodes() if node.name == name), None)
        if found is None:
            raise NodeNotReady(f"There is no node {name!r} here.")
        return found


def _same(made: NodeReservation, wanted: NodeReservation) -> bool:
    """A start that had passed when it was made was moved to then."""
    started = made.start == wanted.start or wanted.start < made.start <= datetime.now(UTC)
    return started and (set(made.nodes), made.end) == (set(wanted.nodes), wanted.end)


def _local(at: datetime) -> str:
    """Slurm's commands take times as their own machine's clock shows them; ours are told to be in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
