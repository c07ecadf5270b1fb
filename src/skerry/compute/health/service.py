"""Use cases of health: signs of trouble become cases, and operators decide about them."""

import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from skerry.compute.engines.base import EngineRefused, EngineUnavailable
from skerry.compute.health import rules
from skerry.compute.health.errors import CannotDecide, CheckRuns, UnknownRemediation
from skerry.compute.health.model import (
    REMEDIATION_TRANSITIONS,
    Action,
    Check,
    Policy,
    Probe,
    Remediation,
    RemediationStatus,
    Severity,
    Sign,
    Signal,
    Verdict,
)
from skerry.compute.health.store import REMEDIATIONS, HealthStore
from skerry.compute.model import Drop, WorkloadKind, WorkloadSpec
from skerry.compute.service import Compute
from skerry.db.database import Tx
from skerry.fleet.errors import BadFleetField
from skerry.fleet.model import Node, NodeStatus
from skerry.fleet.rules.nodes import NodeVerb
from skerry.fleet.service import Fleet
from skerry.fleet.upkeep import NodeWish
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import Clock
from skerry.kernel.ids import IdFactory, ProjectId, WorkloadId, new_id
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.events import Event, EventLog
from skerry.runtime.state import Reason, transition

KEPT: Final = timedelta(days=30)
_OUT: Final = (NodeStatus.FAILED, NodeStatus.RETIRED)
"""It is known already."""
_ENDED: Final = (RemediationStatus.DONE, RemediationStatus.FAILED, RemediationStatus.REJECTED)


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """`command` is told an action and a host name, and does it; empty: operators do, and say so. `every`: how often
    an idle node has a burn-in; None: never."""

    decides: Policy = Policy.APPROVE
    command: tuple[str, ...] = ()
    every: timedelta | None = timedelta(days=7)
    burn_in_seconds: int = 30
    least_mbit: int = 0
    """What two nodes must be able to send each other, in megabits a second; 0: only that they can."""


class Health:
    """Signals, remediations and checks. All of it is the operator's: no customer sees it."""

    def __init__(
        self,
        compute: Compute,
        fleet: Fleet,
        events: EventLog,
        platform: Callable[[Tx], Awaitable[ProjectId]],
        clock: Clock,
        policy: HealthPolicy,
        new_id: IdFactory = new_id,
    ) -> None:
        """`platform`: the operator's own project, whose checks and cases these are."""
        self.compute, self.fleet, self.clock, self.policy = compute, fleet, clock, policy
        self._events, self.platform = events, platform
        self.db = fleet.db
        self.store = HealthStore()
        self.new_id = new_id

    # Signs

    async def notice(self, node: Node, signs: Sequence[Sign], *, again: bool) -> list[Signal]:
        """Keep what was seen of a node, and open a case where it comes to that. The signals that are new.

        `again`: each is one more of its kind; else what is still so.
        """
        if not signs:
            return []
        now = self.clock.now()
        fresh = []
        async with self.db.transaction() as tx:
            for sign in signs:
                signal, new = await self.store.keep(tx, self.new_id("sig"), node, sign, now, again=again)
                if new:
                    fresh.append(signal)
                    told = {"kind": sign.kind, "code": sign.code, "severity": sign.severity, "detail": sign.detail}
                    await self.fleet.upkeep.note(tx, node.id, "signal", told)
            verdict = await self.verdict(tx, node)
            if verdict is not None and verdict.severity is Severity.FAILING:
                now_is = (await self.fleet.find_nodes(tx, [node.hostname])).get(node.hostname)
                if now_is is not None and now_is.status not in _OUT:
                    await self._open(tx, node, verdict)
        return fresh

    async def verdict(self, tx: Tx, node: Node) -> Verdict | None:
        now = self.clock.now()
        signals = await self.store.signals(tx, node.id, now - rules.RECENT)
        return rules.judge(signals, now, await self.store.last_closed(tx, node.id))

    async def _open(self, tx: Tx, node: Node, verdict: Verdict) -> None:
        now = self.clock.now()
        itself = rules.goes_by_itself(self.policy.decides, verdict.action)
        status = RemediationStatus.APPROVED if itself else RemediationStatus.PROPOSED
        words = "The policy approves it." if itself else "An operator decides: approve or reject it."
        case = Remediation(
            id=self.new_id("rem"),
            node=node.id,
            hostname=node.hostname,
            status=status,
            status_reason=Reason("by_policy" if itself else "to_be_decided", words).to_json(),
            action=verdict.action,
            cause=verdict.because.detail,
            signal=verdict.because.id,
            created_at=now,
            updated_at=now,
        )
        if await self.store.open(tx, await self.platform(tx), case):
            data = {"remediation": case.id, "action": case.action, "cause": case.cause, "status": case.status}
            await self.fleet.upkeep.note(tx, node.id, "failing", data)

    # What operators decide

    async def approve(self, id: str, by: str) -> Remediation:
        """Raises UnknownRemediation, CannotDecide."""
        reason = Reason("approved", f"Approved by {by}.")
        return await self._decide(id, RemediationStatus.APPROVED, reason, by, (RemediationStatus.PROPOSED,))

    async def reject(self, id: str, by: str) -> Remediation:
        """The node is well: it is given back, and what was noticed so far counts no longer."""
        may = (RemediationStatus.PROPOSED, RemediationStatus.APPROVED)
        reason = Reason("rejected", f"Rejected by {by}.")
        rejected = await self._decide(id, RemediationStatus.REJECTED, reason, by, may)
        await self._give_back(rejected)
        return rejected

    async def _give_back(self, case: Remediation) -> None:
        """The node takes work again, where it was only this case that kept it from that."""
        node = await self.fleet.node(case.node)
        for engine in self.compute.engines.values():
            with suppress(EngineRefused, EngineUnavailable):
                await engine.resume(node.hostname)
        if node.status is NodeStatus.DRAINING:
            await self.fleet.upkeep.move(node.id, NodeWish(NodeVerb.RESUME, "it was found to be well"))

    async def mended(self, id: str, by: str) -> Remediation:
        """Hands have done it: a burn-in follows."""
        reason = Reason("to_be_checked", f"Done by {by}; a burn-in follows.")
        may = (RemediationStatus.PROPOSED, RemediationStatus.APPROVED)
        async with self.db.transaction() as tx:
            found = await self._locked(tx, id, RemediationStatus.CHECKING, may)
            if found.status is RemediationStatus.PROPOSED:
                await self.move(tx, found, RemediationStatus.APPROVED, Reason("approved", f"Approved by {by}."), by)
                found = await self._locked(tx, id, RemediationStatus.CHECKING, may)
            await self.move(tx, found, RemediationStatus.CHECKING, reason, by)
            return await self._found(tx, id)

    async def _decide(
        self, id: str, after: RemediationStatus, reason: Reason, by: str, may: Collection[RemediationStatus]
    ) -> Remediation:
        async with self.db.transaction() as tx:
            found = await self._locked(tx, id, after, may)
            if found.status is not after:
                await self.move(tx, found, after, reason, by)
            return await self._found(tx, id)

    async def _locked(
        self, tx: Tx, id: str, after: RemediationStatus, may: Collection[RemediationStatus]
    ) -> Remediation:
        """One that is where it is wanted already is fine."""
        found = await self.store.find(tx, id, lock=True)
        if found is None:
            raise UnknownRemediation(f"There is no remediation {id}.", suggestion="`skerry fleet health` lists them.")
        if found.status is not after and found.status not in may:
            raise CannotDecide(
                f"Remediation {id} of {found.hostname} is {found.status}.",
                suggestion="Only what is proposed or approved can still be decided.",
            )
        return found

    async def _found(self, tx: Tx, id: str) -> Remediation:
        found = await self.store.find(tx, id)
        assert found is not None, "it was there a moment ago, and is never deleted"
        return found

    async def move(
        self, tx: Tx, case: Remediation, after: RemediationStatus, reason: Reason, by: str | None = None
    ) -> bool:
        values: dict[str, object] = {"decided_by": by} if by is not None else {}
        if after in _ENDED:
            values["ended_at"] = self.clock.now()
        return await transition(
            tx,
            self._events,
            REMEDIATION_TRANSITIONS,
            REMEDIATIONS,
            id=case.id,
            project=await self.platform(tx),
            before=case.status,
            after=after,
            reason=reason,
            values=values,
        )

    # Checks

    async def check(self, ref: str, check: Check, peer: str | None = None) -> Probe:
        """Have a node checked as soon as it is idle; a bandwidth check needs another one.

        Raises UnknownFleetThing, BadFleetField, CheckRuns.
        """
        node = await self.fleet.node(ref)
        other = await self.fleet.node(peer) if peer is not None else None
        if (check is Check.BANDWIDTH) != (other is not None):
            raise BadFleetField("peer", "invalid_peer", "a bandwidth check, and no other, is with another node")
        if other is not None and other.id == node.id:
            raise BadFleetField("peer", "invalid_peer", "a node has no bandwidth to itself")
        async with self.db.transaction() as tx:
            return await self.begin(tx, node, check, other)

    async def begin(
        self, tx: Tx, node: Node, check: Check, peer: Node | None = None, remediation: str | None = None
    ) -> Probe:
        """`remediation`: the node is drained for it, and nobody else is there; else the check takes idle capacity, and
        yields at once. Raises CheckRuns."""
        nodes = [node] if peer is None else [node, peer]
        spec = self._spec(nodes, check, drained=remediation is not None)
        workload = await self.compute.create_workload(tx, await self.platform(tx), spec)
        probe = Probe(
            workload=WorkloadId(workload.id),
            node=node.id,
            hostname=node.hostname,
            check=check,
            created_at=self.clock.now(),
            peer=peer.hostname if peer is not None else None,
            remediation=remediation,
        )
        if not await self.store.begin(tx, probe):
            raise CheckRuns(f"A check of {node.hostname} runs already.", suggestion="Wait until it has ended.")
        return probe

    def _spec(self, nodes: Sequence[Node], check: Check, *, drained: bool) -> WorkloadSpec:
        each = 0 if drained else min(len(node.accelerators) for node in nodes)
        arguments: tuple[str, ...] = (check.value, "--seconds", str(self.policy.burn_in_seconds))
        if self.policy.least_mbit and check is Check.BANDWIDTH:
            arguments += ("--least-mbit", str(self.policy.least_mbit))
        return WorkloadSpec(
            kind=WorkloadKind.JOB,
            name=f"{check.value.replace('_', '-')}-{nodes[0].hostname}"[:100],
            resource=nodes[0].id,
            command=(sys.executable, "-I", "-m", "skerry.compute.health.checks", *arguments),
            capacity_class=CapacityClass.SPOT,
            accelerators=each * len(nodes),
            tasks=len(nodes),
            nodes=len(nodes),
            only_nodes=tuple(node.hostname for node in nodes),
            probe=drained,
            max_restarts=0,
            drop=Drop.BY_PROGRAM,
            grace_seconds=1.0,
            priority=-100,
        )

    # Reading

    async def remediations(self, statuses: Sequence[RemediationStatus], request: PageRequest) -> Page[Remediation]:
        """Newest first; no statuses: all."""
        async with self.db.reading() as tx:
            return await self.store.page(tx, statuses, request)

    async def remediation(self, id: str) -> Remediation:
        """Raises UnknownRemediation."""
        async with self.db.reading() as tx:
            found = await self.store.find(tx, id)
        if found is None:
            raise UnknownRemediation(f"There is no remediation {id}.", suggestion="`skerry fleet health` lists them.")
        return found

    async def events(self, id: str, request: PageRequest) -> Page[Event]:
        """The timeline of a case, oldest first. Raises UnknownRemediation."""
        await self.remediation(id)
        async with self.db.reading() as tx:
            return await self._events.list(tx, await self.platform(tx), id, request)

    async def signals(self, node: str | None, request: PageRequest) -> Page[Signal]:
        """Newest first; of one node by name or id, or of all. Raises UnknownFleetThing."""
        if node is not None:
            node = (await self.fleet.node(node)).id
        async with self.db.reading() as tx:
            return await self.store.page_of_signals(tx, node, request)

    async def keep_house(self, before: datetime | None = None) -> None:
        """Forget signals and checks of more than 30 days ago."""
        async with self.db.transaction() as tx:
            await self.store.forget(tx, before or self.clock.now() - KEPT)


def needs_hands(case: Remediation, policy: HealthPolicy) -> bool:
    """Nobody but people can do it."""
    return not policy.command or case.action in (Action.REPLACE, Action.INSPECT)
