"""What people do about instances and clusters: estimate, make, stop, start, terminate, look."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NoReturn, Protocol

from skerry.artifacts.volumes.model import HolderKind, Volume, VolumeKind
from skerry.artifacts.volumes.service import Volumes
from skerry.capacity.service import Capacity
from skerry.compute.errors import NotEnded
from skerry.compute.instances import handing, rules
from skerry.compute.instances.checking import Checking
from skerry.compute.instances.errors import (
    ActionNotAvailable,
    InstanceNameTaken,
    NothingFree,
    UnknownCluster,
    UnknownInstance,
)
from skerry.compute.instances.handing import KeyPair, Places
from skerry.compute.instances.model import (
    INSTANCE_TRANSITIONS,
    Estimate,
    Instance,
    InstanceKind,
    InstanceReason,
    InstanceStatus,
    InstanceView,
    NewInstance,
    Plan,
    Wish,
)
from skerry.compute.instances.pricing import Pricing
from skerry.compute.instances.store import TABLE, InstanceStore
from skerry.compute.model import StopReason, Workload
from skerry.compute.service import Compute
from skerry.compute.steps import Nodes
from skerry.db.database import Database, Tx
from skerry.db.notify import WORK, notify
from skerry.identity.model import Principal
from skerry.identity.ssh_keys.rules import parse_public_key
from skerry.kernel.clock import Clock
from skerry.kernel.errors import FieldError, Unavailable
from skerry.kernel.ids import IdFactory, ProjectId, WorkloadId, new_id
from skerry.kernel.money import Money
from skerry.kernel.paging import MAX_LIMIT, Page, PageRequest
from skerry.runtime.events import EventLog
from skerry.runtime.outbox import Message
from skerry.runtime.state import Reason, transition

KIND: Final = "instance"
"""Payload of the hint to the reconciler, for both kinds."""
_PREFIX: Final = {InstanceKind.INSTANCE: "inst", InstanceKind.CLUSTER: "clu"}
_HOLDER: Final = {InstanceKind.INSTANCE: HolderKind.INSTANCE, InstanceKind.CLUSTER: HolderKind.CLUSTER}
_HOME_TARGET: Final = "~"


class Auditor(Protocol):
    async def audit(
        self, tx: Tx, principal: Principal | None, action: str, resource: str, *, detail: dict[str, Any] | None = None
    ) -> None: ...


class Admits(Protocol):
    """Who asks for capacity at once (`AdmitNow`)."""

    async def nodes(self) -> Nodes: ...

    async def place(self, tx: Tx, workload: Workload, nodes: Nodes) -> Reason | None: ...

    async def nearest(self, tx: Tx, workload: Workload, nodes: Nodes) -> dict[str, int] | None: ...


class _Undone(Exception):
    """Rolls the transaction back."""


class Instances:
    """`python`: what runs programs of ours on the nodes."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        events: EventLog,
        auditor: Auditor,
        compute: Compute,
        capacity: Capacity,
        volumes: Volumes,
        checking: Checking,
        pricing: Pricing,
        *,
        ids: IdFactory = new_id,
        python: str = sys.executable,
    ) -> None:
        self.db = db
        self.clock = clock
        self.events = events
        self.auditor = auditor
        self.compute = compute
        self.capacity = capacity
        self.volumes = volumes
        self.checking = checking
        self.pricing = pricing
        self.new_id = ids
        self.python = python
        self.store = InstanceStore()
        self._admits: Admits | None = None

    @property
    def admit(self) -> Admits:
        if self._admits is None:
            raise Unavailable("This process makes no instances.", retry_after=5)
        return self._admits

    def admit_by(self, admits: Admits) -> None:
        """In processes that make instances; wired at start, since what places work compiles code and is large."""
        self._admits = admits

    async def estimate(self, principal: Principal, new: NewInstance) -> Estimate:
        """What it would cost, and whether it could start now. Changes nothing. Raises what `create` raises, but for
        want of capacity or money."""
        plan = await self.checking.check(principal, new)
        hour = await self.pricing.hour(principal.project_id, plan)
        nodes = await self.admit.nodes()
        reason: Reason | None = None
        try:
            async with self.db.transaction() as tx:
                made, workload = await self._make(tx, principal, plan)
                reason = await self._placed(tx, made, workload, nodes)
                raise _Undone
        except _Undone:
            pass
        seconds = new.max_duration_seconds
        total = None if seconds is None else Money(hour.amount * seconds / 3600, hour.currency)
        grams = int(Decimal(plan.watts) / 1000 * plan.grams_per_kwh)
        found = reason or Reason(InstanceReason.READY, "It would start now.")
        return Estimate(plan, hour, total, plan.watts, grams, available_now=reason is None, reason=found)

    async def create(self, principal: Principal, new: NewInstance) -> InstanceView:
        """It begins to start at once; inside a reservation it may wait. Raises what `Checking.check` raises, and
        InstanceNameTaken, CannotPay, NothingFree, VolumeInUse, VolumesQuotaExceeded, NoVolumeRoom, EngineUnavailable.
        """
        plan = await self.checking.check(principal, new)
        await self.pricing.require_payable(principal, await self.pricing.hour(principal.project_id, plan))
        nodes = await self.admit.nodes()
        refused: tuple[Reason, dict[str, int] | None] | None = None
        view: InstanceView | None = None
        try:
            async with self.db.transaction() as tx:
                made, workload = await self._make(tx, principal, plan)
                reason = await self._placed(tx, made, workload, nodes)
                if reason is not None:
                    refused = reason, await self.admit.nearest(tx, workload, nodes)
                    raise _Undone
                await notify(tx, WORK, KIND)
                view = (await self.views(tx, [made]))[0]
                await self.auditor.audit(tx, principal, f"{made.kind}.create", made.id, detail=_described(made))
        except _Undone:
            pass
        if refused is not None:
            await self._nothing_free(principal, plan, *refused)
        assert view is not None, "it was made, or refused"
        return view

    async def stop(self, principal: Principal, kind: InstanceKind, ref: str) -> InstanceView:
        """Give its capacity back, and keep its home folder and volumes. Raises UnknownInstance, ActionNotAvailable."""
        return await self._want(principal, kind, ref, "stop", Wish.STOP)

    async def terminate(self, principal: Principal, kind: InstanceKind, ref: str) -> InstanceView:
        """End it for good: its home folder goes, volumes are free. Raises UnknownInstance, ActionNotAvailable."""
        return await self._want(principal, kind, ref, "terminate", Wish.TERMINATE)

    async def start(self, principal: Principal, kind: InstanceKind, ref: str) -> InstanceView:
        """Again, with the same home folder, host key and SSH keys; it waits where nothing is free. Raises
        UnknownInstance, ActionNotAvailable, CannotPay."""
        async with self.db.transaction() as tx:
            instance = await self._allowed(tx, principal, kind, ref, "start")
            try:
                await self.compute.start_workload(tx, instance.project, instance.workload)
            except NotEnded as error:
                raise ActionNotAvailable(f"start of {instance.name}: {error.detail}", suggestion="Wait.") from error
            return await self._wished(tx, principal, instance, "start", Wish.RUN)

    async def get(self, project: ProjectId, kind: InstanceKind, ref: str) -> InstanceView:
        """By id or name. Raises UnknownInstance, UnknownCluster."""
        async with self.db.reading() as tx:
            return (await self.views(tx, [await self.require(tx, project, kind, ref)]))[0]

    async def list(
        self, project: ProjectId, kind: InstanceKind, page: PageRequest, *, status: InstanceStatus | None = None
    ) -> Page[InstanceView]:
        async with self.db.reading() as tx:
            found = await self.store.page(tx, project, kind, page, status=status)
            views = {view.instance.id: view for view in await self.views(tx, found.data)}
        return found.map(lambda one: views[one.id])

    async def require(
        self, tx: Tx, project: ProjectId, kind: InstanceKind, ref: str, *, lock: bool = False
    ) -> Instance:
        """Raises UnknownInstance, UnknownCluster."""
        instance = await self.store.find(tx, project, kind, ref, lock=lock)
        if instance is None:
            unknown = UnknownInstance if kind is InstanceKind.INSTANCE else UnknownCluster
            raise unknown(f"there is no {kind} {ref[:100]!r}", suggestion="List them to see which there are.")
        return instance

    async def views(self, tx: Tx, instances: Sequence[Instance]) -> Sequence[InstanceView]:
        found = []
        for one in instances:
            workload = await self.compute.get(tx, one.project, one.workload)
            attempts = await self.compute.attempts(tx, one.project, one.workload, PageRequest(MAX_LIMIT))
            cost = await self.pricing.so_far(tx, one, attempts.data)
            attached = await self.volumes.attached(tx, one.project, one.id)
            shown = tuple(
                (each.volume.name, each.target, each.read_only)
                for each in attached
                if each.volume.kind is VolumeKind.VOLUME
            )
            found.append(InstanceView(one, workload, rules.nodes_of(one, workload), cost, shown))
        return found

    async def move(self, tx: Tx, instance: Instance, after: InstanceStatus, reason: Reason) -> None:
        """Step by step to a status, of an instance that is locked."""
        now = self.clock.now()
        for status in rules.steps(instance.status, after):
            values: dict[str, Any] = {}
            if status is InstanceStatus.RUNNING:
                values["running_at"] = now
            if status is InstanceStatus.TERMINATED:
                values["ended_at"] = now
            moved = await transition(
                tx,
                self.events,
                INSTANCE_TRANSITIONS,
                TABLE,
                id=instance.id,
                project=instance.project,
                before=instance.status,
                after=status,
                reason=reason,
                values=values,
                kind=instance.kind.value,
            )
            assert moved, "the row is locked"
            instance = replace(instance, status=status)

    async def workload_changed(self, message: Message) -> None:
        """Handler of the outbox topic `workload`: look at the instance it belongs to."""
        resource = str(message.payload["resource"])
        if not resource.startswith(tuple(f"{prefix}_" for prefix in _PREFIX.values())):
            return
        async with self.db.transaction() as tx:
            if await self.store.hint(tx, ProjectId(message.payload["project"]), resource, self.clock.now()):
                await notify(tx, WORK, KIND)

    async def _make(self, tx: Tx, principal: Principal, plan: Plan) -> tuple[Instance, Workload]:
        """Its rows, volumes and workload. Keys are made here, once: they are the same at every start."""
        project, new = principal.project_id, plan.new
        id = self.new_id(_PREFIX[new.kind])
        home: Volume | None = None
        if new.home_bytes:
            home = await self.volumes.create_home(tx, project, f"home-{id}", new.home_bytes, plan.site)
            await self.volumes.attach_home(tx, home, _HOLDER[new.kind], id, _HOME_TARGET)
        attached = await self.volumes.attach(tx, project, new.volumes, _HOLDER[new.kind], id) if new.volumes else ()
        host_key = handing.new_key_pair(id)
        instance = _new(id, project, plan, host_key, home, self.clock.now())
        places = Places(self.volumes.folder, home, tuple(attached))
        spec = handing.workload_spec(instance, plan, self.checking.policy, places, host_key, self.python)
        workload = await self.compute.create_workload(tx, project, spec)
        instance = replace(instance, workload=workload.id)
        if not await self.store.insert(tx, instance):
            words = f"there is an instance or a cluster {new.name!r} in this project"
            errors = [FieldError("name", "instance_name_taken", words)]
            raise InstanceNameTaken(words, suggestion="Choose another name.", errors=errors)
        await self._record(tx, instance, "created", {**_described(instance), "workload": workload.id})
        return instance, workload

    async def _placed(self, tx: Tx, instance: Instance, workload: Workload, nodes: Nodes) -> Reason | None:
        """Why it cannot start now; what is inside a reservation may wait."""
        if instance.reservation is not None:
            return None
        return await self.admit.place(tx, workload, nodes)

    async def _nothing_free(
        self, principal: Principal, plan: Plan, reason: Reason, nearest: Mapping[str, int] | None
    ) -> NoReturn:
        here = await self.capacity.availability.of(principal, start=self.clock.now())
        free = [
            {"sku": one.sku, "site": one.site, "free_nodes": one.schedule[0].nodes}
            for one in here.data
            if one.schedule and one.schedule[0].nodes
        ]
        what = ", ".join(f"{count} {name}" for name, count in (nearest or {}).items())
        others = ", ".join(f"{one['free_nodes']} × {one['sku']} at {one['site']}" for one in free[:5])
        suggestion = f"{what} would start now. " if what else ""
        suggestion += f"Free nodes: {others}. " if others else ""
        extra = {"reason": reason.code, "sku": plan.sku, "nearest": nearest, "free": free}
        raise NothingFree(reason.message, suggestion=suggestion.strip(), extra=extra)

    async def _want(self, principal: Principal, kind: InstanceKind, ref: str, verb: str, wish: Wish) -> InstanceView:
        async with self.db.transaction() as tx:
            instance = await self._allowed(tx, principal, kind, ref, verb)
            await self.compute.stop_workload(tx, instance.project, instance.workload, StopReason.BY_CUSTOMER)
            return await self._wished(tx, principal, instance, verb, wish)

    async def _allowed(self, tx: Tx, principal: Principal, kind: InstanceKind, ref: str, verb: str) -> Instance:
        instance = await self.require(tx, principal.project_id, kind, ref, lock=True)
        reason = rules.why_not(instance)[verb]
        if reason is not None:
            raise ActionNotAvailable(
                f"{verb} of {instance.name}: {reason}", suggestion=f"`actions` of the {kind} says what can be done."
            )
        return instance

    async def _wished(self, tx: Tx, principal: Principal, instance: Instance, verb: str, wish: Wish) -> InstanceView:
        await self.store.wish(tx, instance, wish, self.clock.now())
        await self._record(tx, instance, f"{verb}_requested", {"by": principal.key_name})
        if wish is Wish.RUN:
            await self.move(tx, instance, InstanceStatus.PENDING, rules.resumed())
        elif instance.status not in rules.ENDED:
            await self.move(tx, instance, InstanceStatus.STOPPING, rules.stop_requested())
        await notify(tx, WORK, KIND)
        again = await self.require(tx, instance.project, instance.kind, instance.id)
        view = (await self.views(tx, [again]))[0]
        await self.auditor.audit(tx, principal, f"{instance.kind}.{verb}", instance.id)
        return view

    async def _record(self, tx: Tx, instance: Instance, type: str, data: Mapping[str, Any]) -> None:
        kind = instance.kind.value
        await self.events.record(
            tx, project=instance.project, resource=instance.id, resource_kind=kind, type=f"{kind}.{type}", data=data
        )


def _new(id: str, project: ProjectId, plan: Plan, host_key: KeyPair, home: Volume | None, now: datetime) -> Instance:
    new = plan.new
    kind, _, rest = host_key.public.partition(" ")
    return Instance(
        id=id,
        project=project,
        kind=new.kind,
        name=new.name,
        sku=plan.sku,
        site=plan.site,
        accelerators=plan.accelerators,
        nodes=new.nodes,
        scope=new.scope,
        capacity_class=plan.capacity_class,
        charge_by=plan.charge_by,
        reservation=new.reservation,
        image=new.image,
        template=new.template,
        fingerprints=tuple(parse_public_key(line).fingerprint for line in plan.public_keys),
        host_key=f"{kind} {rest.partition(' ')[0]}",
        workload=WorkloadId(""),
        home=home.id if home is not None else None,
        max_duration_seconds=new.max_duration_seconds,
        max_cost=new.max_cost,
        tags=new.tags,
        wish=Wish.RUN,
        status=InstanceStatus.PENDING,
        reason=Reason(InstanceReason.NEW, "Wait: it is about to start."),
        created_at=now,
        updated_at=now,
    )


def _described(instance: Instance) -> dict[str, Any]:
    return {
        "name": instance.name,
        "sku": instance.sku,
        "site": instance.site,
        "nodes": instance.nodes,
        "accelerators": instance.accelerators,
        "capacity_class": instance.capacity_class.value,
        "ssh_keys": list(instance.fingerprints),
    }
