"""Looks after the nodes: what engines see of them becomes signals, cases go on step by step, idle nodes are checked.

Level-triggered and idempotent: every look starts from what is on record, so controllers may die, and several may run.
"""

import asyncio
import os
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from skerry.capacity.admission.service import Admission
from skerry.compute.engines.base import Engine, EngineRefused, EngineUnavailable, NodeCondition, NodeState
from skerry.compute.health import rules
from skerry.compute.health.errors import CheckRuns
from skerry.compute.health.model import (
    Check,
    Probe,
    ProbeOutcome,
    Remediation,
    RemediationStatus,
    Severity,
    Sign,
    SignalKind,
)
from skerry.compute.health.service import Health, needs_hands
from skerry.compute.model import Outcome, StopReason, Workload, WorkloadStatus
from skerry.compute.store import Work, WorkloadStore
from skerry.db.database import Tx
from skerry.db.errors import DatabaseUnavailable
from skerry.fleet.model import Node, NodeStatus
from skerry.fleet.rules.nodes import NodeVerb
from skerry.fleet.upkeep import NodeWish
from skerry.kernel.ids import AttemptId, ProjectId
from skerry.runtime.outbox import Message
from skerry.runtime.state import Reason

LOOK_SECONDS: Final = 5.0
COMMAND_SECONDS: Final = 900.0
_LEAVE: Final = timedelta(seconds=60)
"""What work on a failing node is given to write its checkpoint."""
_AT_A_TIME: Final = 4
"""Burn-ins of idle nodes that run at one time, over the whole fleet."""
_OUR_WORDS: Final = 300


@dataclass(slots=True)
class HealthKeeper:
    health: Health
    engines: Mapping[str, Engine]
    admission: Admission
    _down: dict[str, datetime] = field(default_factory=dict)
    _commands: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    _workloads: WorkloadStore = field(default_factory=WorkloadStore)
    _work: Work = field(default_factory=Work)

    async def run(self) -> None:
        """Until cancelled."""
        log = structlog.get_logger("skerry.compute.health")
        while True:
            try:
                await self.look_once()
            except (DatabaseUnavailable, EngineUnavailable) as error:
                log.info("health_put_off", reason=error.code)
            await asyncio.sleep(LOOK_SECONDS)

    async def look_once(self) -> None:
        states, nodes = await self._states()
        for hostname, (_, state) in states.items():
            if (node := nodes.get(hostname)) is not None and node.status is not NodeStatus.RETIRED:
                await self.health.notice(node, rules.of_state(state, self._down_for(state)), again=False)
        await self._close_probes()
        async with self.health.db.reading() as tx:
            cases = await self.health.store.open_ones(tx)
        for case in cases:
            if (node := nodes.get(case.hostname)) is not None:
                await self._step(case, node, states[case.hostname][0])
        await self._check_idle(states, nodes, {case.node for case in cases})

    async def _states(self) -> tuple[dict[str, tuple[Engine, NodeState]], Mapping[str, Node]]:
        """All nodes that an engine has told of, and what the fleet knows of them."""
        found: dict[str, tuple[Engine, NodeState]] = {}
        for engine in self.engines.values():
            for state in await engine.nodes():
                found[state.name] = (engine, state)
        async with self.health.db.reading() as tx:
            return found, await self.health.fleet.find_nodes(tx, list(found))

    def _down_for(self, state: NodeState) -> timedelta:
        now = self.health.clock.now()
        if state.condition is not NodeCondition.DOWN:
            self._down.pop(state.name, None)
            return timedelta(0)
        return now - self._down.setdefault(state.name, now)

    # Cases

    async def _step(self, case: Remediation, node: Node, engine: Engine) -> None:
        match case.status:
            case RemediationStatus.PROPOSED:
                await self._empty(case, node, engine)
            case RemediationStatus.APPROVED:
                if not await self._empty(case, node, engine):
                    await self._explain(case, "emptying", "Its work is leaving: what can writes a checkpoint first.")
                elif needs_hands(case, self.health.policy):
                    words = f"It is empty. {case.action.capitalize()} it, then: skerry fleet mended {case.id}"
                    await self._explain(case, "waits_for_hands", words)
                else:
                    await self._begin_command(case)
            case RemediationStatus.RUNNING:
                await self._watch_command(case)
            case RemediationStatus.CHECKING:
                await self._judge_check(case, node, engine)

    async def _empty(self, case: Remediation, node: Node, engine: Engine) -> bool:
        """Keep the node drained, in the fleet's books and at its engine; whether nothing of ours is left on it."""
        health = self.health
        if node.status in (NodeStatus.READY, NodeStatus.CORDONED):
            await health.fleet.upkeep.move(node.id, NodeWish(NodeVerb.DRAIN, _reason(case), force=True))
        await _tolerant(engine.drain(node.hostname, f"skerry: {_reason(case)}"))
        async with health.db.transaction() as tx:
            await self.admission.vacate(tx, node.id, health.clock.now() + _LEAVE)
            use = await self._work.use_of(tx, [node.hostname])
            return not use

    async def _begin_command(self, case: Remediation) -> None:
        async with self.health.db.transaction() as tx:
            reason = Reason("running", f"{case.action} of {case.hostname} has begun.")
            if not await self.health.move(tx, case, RemediationStatus.RUNNING, reason):
                return
        self._commands[case.id] = asyncio.create_task(self._command(case))

    async def _command(self, case: Remediation) -> None:
        command = (*self.health.policy.command, case.action.value, case.hostname)
        ok, words = await _ran(command)
        after = RemediationStatus.CHECKING if ok else RemediationStatus.FAILED
        reason = Reason("to_be_checked", "Done; a burn-in follows.") if ok else Reason("command_failed", words)
        if not ok:
            await self._fail(case, words)
        await self._close_case(case, RemediationStatus.RUNNING, after, reason)

    async def _close_case(
        self, case: Remediation, before: RemediationStatus, after: RemediationStatus, reason: Reason
    ) -> None:
        """What is to become of the node has been done before: a closed case keeps it from nothing."""
        async with self.health.db.transaction() as tx:
            found = await self.health.store.find(tx, case.id, lock=True)
            if found is not None and found.status is before:
                await self.health.move(tx, found, after, reason)

    async def _watch_command(self, case: Remediation) -> None:
        """One whose controller has died is not begun again: half a reset is no reason for another."""
        task = self._commands.get(case.id)
        if task is not None and not task.done():
            return
        self._commands.pop(case.id, None)
        if self.health.clock.now() - case.updated_at < timedelta(seconds=COMMAND_SECONDS + 60):
            return
        words = "Whoever ran it has ended, and how far it came is not known."
        await self._fail(case, words)
        reason = Reason("cut_off", words)
        await self._close_case(case, RemediationStatus.RUNNING, RemediationStatus.FAILED, reason)

    async def _judge_check(self, case: Remediation, node: Node, engine: Engine) -> None:
        health = self.health
        async with health.db.reading() as tx:
            probe = await health.store.of_remediation(tx, case.id)
        if probe is None or probe.outcome is ProbeOutcome.YIELDED:
            await _tolerant(engine.resume(node.hostname))
            async with health.db.transaction() as tx:
                await health.begin(tx, node, Check.BURN_IN, remediation=case.id)
            return
        if probe.outcome is None:
            await self._explain(case, "checking", "A burn-in runs on it.")
            return
        passed = probe.outcome is ProbeOutcome.PASSED
        after = RemediationStatus.DONE if passed else RemediationStatus.FAILED
        reason = Reason("check_passed" if passed else "check_failed", probe.detail or "The burn-in has ended.")
        if not passed:
            await self._fail(case, probe.detail)
        elif node.status in (NodeStatus.DRAINING, NodeStatus.MAINTENANCE, NodeStatus.FAILED):
            await health.fleet.upkeep.move(node.id, NodeWish(NodeVerb.RESUME, f"mended: {_reason(case)}"))
        await self._close_case(case, RemediationStatus.CHECKING, after, reason)

    async def _fail(self, case: Remediation, words: str) -> None:
        node = await self.health.fleet.node(case.node)
        if node.status is not NodeStatus.FAILED:
            reason = f"{case.action} did not help: {words}"[:_OUR_WORDS]
            await self.health.fleet.upkeep.move(node.id, NodeWish(NodeVerb.FAIL, reason))

    async def _explain(self, case: Remediation, code: str, words: str) -> None:
        reason = Reason(code, words).to_json()
        if case.status_reason != reason:
            async with self.health.db.transaction() as tx:
                await self.health.store.explain(tx, case.id, reason, self.health.clock.now())

    # Checks

    async def _close_probes(self) -> None:
        health = self.health
        async with health.db.reading() as tx:
            platform = await health.platform(tx)
            running = await health.store.running(tx)
            workloads = [await self._workloads.find(tx, platform, probe.workload) for probe in running]
        for probe, workload in zip(running, workloads, strict=True):
            if workload is None or workload.status is WorkloadStatus.ENDED:
                await self._close(probe, workload)
            elif workload.outcome is None and _gave_way(workload):
                await self._withdraw(platform, workload)

    async def _withdraw(self, project: ProjectId, workload: Workload) -> None:
        """It has left for somebody: it need not come back for its own sake."""
        async with self.health.db.transaction() as tx:
            await self.health.compute.stop_workload(tx, project, workload.id, StopReason.BY_OWNER)

    async def _close(self, probe: Probe, workload: Workload | None) -> None:
        outcome, detail = _result(workload)
        health = self.health
        async with health.db.transaction() as tx:
            if not await health.store.finish(tx, probe.workload, outcome, detail, health.clock.now()):
                return
        if outcome is ProbeOutcome.YIELDED:
            return
        ok = outcome is ProbeOutcome.PASSED
        for hostname in filter(None, (probe.hostname, probe.peer)):
            await health.fleet.upkeep.check(hostname, probe.check.value, None, ok=ok, detail=detail[:2000])
        if not ok and probe.remediation is None:
            await self._blame(probe, detail)

    async def _blame(self, probe: Probe, detail: str) -> None:
        """A burn-in has one node; of two that could not reach each other either may be it."""
        severity = Severity.FAILING if probe.check is Check.BURN_IN else Severity.SUSPECT
        for hostname in filter(None, (probe.hostname, probe.peer)):
            words = f"{probe.check.value.replace('_', ' ')} failed: {detail}"[:_OUR_WORDS]
            sign = Sign(SignalKind.CHECK, probe.check.value, severity, words)
            await self.health.notice(await self.health.fleet.node(hostname), [sign], again=True)

    async def _check_idle(
        self, states: Mapping[str, tuple[Engine, NodeState]], nodes: Mapping[str, Node], ill: set[str]
    ) -> None:
        every = self.health.policy.every
        if every is None:
            return
        health = self.health
        async with health.db.reading() as tx:
            running = await health.store.running(tx)
            last = await health.store.last(tx, health.clock.now() - every)
            ready = [
                node
                for name, node in nodes.items()
                if node.status is NodeStatus.READY
                and states[name][1].condition is NodeCondition.READY
                and node.id not in ill
                and node.id not in last
                and node.created_at < health.clock.now() - every
            ]
            busy = {one.node for one in await self._work.use_of(tx, [node.hostname for node in ready])}
        free = _AT_A_TIME - len(running)
        checked = {probe.node for probe in running}
        for node in [one for one in ready if one.hostname not in busy and one.id not in checked][: max(0, free)]:
            await self._begin_idle(node)

    async def _begin_idle(self, node: Node) -> None:
        try:
            async with self.health.db.transaction() as tx:
                await self.health.begin(tx, node, Check.BURN_IN)
        except CheckRuns:
            return


class HealthNews:
    """What the end of work says of its node. Handler of the outbox, topic `workload`."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._store = WorkloadStore()

    async def changed(self, message: Message) -> None:
        told = message.payload
        if not told.get("attempt"):
            return
        health = self._health
        async with health.db.reading() as tx:
            attempt = await self._store.find_attempt(tx, ProjectId(told["project"]), AttemptId(told["attempt"]))
            if attempt is None or attempt.ended_at is None:
                return
            if attempt.outcome not in (Outcome.FAILED, Outcome.LOST):
                return
            signs = rules.of_exit(attempt.outcome, attempt.message, alone=len(attempt.nodes) == 1)
            nodes = await self._nodes(tx, attempt.nodes) if signs else []
        # Told more than once, an end is still one: its id is part of the code.
        own = [Sign(one.kind, f"{one.code}:{attempt.id}", one.severity, one.detail, one.action) for one in signs]
        for node in nodes:
            await health.notice(node, own, again=False)

    async def _nodes(self, tx: Tx, hostnames: Sequence[str]) -> list[Node]:
        return list((await self._health.fleet.find_nodes(tx, hostnames)).values())


def _gave_way(workload: Workload) -> bool:
    last = workload.attempt
    return workload.status is WorkloadStatus.PENDING and last is not None and last.outcome is Outcome.PREEMPTED


def _result(workload: Workload | None) -> tuple[ProbeOutcome, str]:
    last = workload.attempt if workload is not None else None
    if workload is None or last is None:
        return ProbeOutcome.YIELDED, "it never began"
    said = (last.report or {}).get("detail") or last.message
    if last.outcome is Outcome.SUCCEEDED:
        return ProbeOutcome.PASSED, str(said)
    if last.outcome in (Outcome.PREEMPTED, Outcome.CANCELLED):
        return ProbeOutcome.YIELDED, "it gave way to other work"
    return ProbeOutcome.FAILED, str(said)


def _reason(case: Remediation) -> str:
    return f"{case.cause} ({case.id})"[:_OUR_WORDS]


async def _tolerant(call: Awaitable[None]) -> None:
    """An engine that says no, or nothing, is asked again at the next look."""
    with suppress(EngineRefused, EngineUnavailable):
        await call


async def _ran(command: Sequence[str]) -> tuple[bool, str]:
    """Whether a command of the operator's did it, and the end of what it said."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
        )
    except OSError as error:
        return False, f"{command[0]} cannot be run: {error.strerror or error}"
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False, f"{command[0]} did not end within {COMMAND_SECONDS:.0f} s"
    words = said.decode(errors="replace").strip()[-_OUR_WORDS:]
    return process.returncode == 0, words or f"{command[0]} ended with status {process.returncode}"
