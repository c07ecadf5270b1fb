"""What people do about endpoints: make, scale, drain, resume, replace, remove, and watch them."""

import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from skerry.artifacts.model import Model
from skerry.compute.engines.base import LogChunk
from skerry.db.database import Tx
from skerry.db.notify import ROUTES, WORK, notify
from skerry.identity.model import Principal
from skerry.inference.errors import BadEndpoint, EndpointNameTaken, NothingToRead, NotNow, OperatorOnly
from skerry.inference.estimates import Estimate, Estimates
from skerry.inference.model import (
    Demand,
    Desired,
    Endpoint,
    EndpointKind,
    EndpointLoad,
    EndpointStatus,
    EndpointView,
    NewEndpoint,
    ReasonCode,
    Replica,
    ReplicaStatus,
    because,
)
from skerry.inference.rules import wishes
from skerry.inference.rules.autoscaling import FRESH, Memory
from skerry.inference.service.inference import KIND, Inference
from skerry.kernel.errors import FieldError
from skerry.kernel.ids import EndpointId, ModelId, ProjectId, ReplicaId, WorkloadId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.events import Event

_SHOWN_STARTS: Final = 10
_SUFFIX: Final = "0123456789abcdefghjkmnpqrstvwxyz"


class Logs(Protocol):
    """What is needed of compute."""

    async def logs(
        self, project: ProjectId, id: WorkloadId, rank: int = 0, offset: int = 0, limit: int = ...
    ) -> LogChunk: ...

    def follow_logs(
        self, project: ProjectId, id: WorkloadId, rank: int = 0, offset: int = 0
    ) -> AsyncIterator[bytes]: ...


class Auditor(Protocol):
    async def audit(
        self, tx: Tx, principal: Principal | None, action: str, resource: str, *, detail: dict[str, Any] | None = None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class LoadView:
    """An endpoint with what happens at it now, and how long its last starts took."""

    view: EndpointView
    load: EndpointLoad
    starts: tuple[Replica, ...]


class Endpoints:
    def __init__(self, inference: Inference, logs: Logs, estimates: Estimates, auditor: Auditor) -> None:
        self.inference = inference
        self.logs = logs
        self.estimates = estimates
        self.auditor = auditor
        self.db = inference.db
        self.clock = inference.clock
        self.store = inference.store

    async def estimate(self, principal: Principal, new: NewEndpoint) -> Estimate:
        """What it would cost. Raises what `create` raises, but for a name that is taken."""
        return (await self._prepare(principal, new))[2]

    async def create(self, principal: Principal, new: NewEndpoint) -> EndpointView:
        """It begins to start at once. Raises OperatorOnly, UnknownModel, BadEndpoint, ModelTooLarge, CannotPay,
        EndpointNameTaken."""
        model, new, estimate = await self._prepare(principal, new)
        await self.estimates.require_payable(principal, estimate)
        async with self.db.transaction() as tx:
            project = model.project if new.kind is EndpointKind.SHARED else principal.project_id
            endpoint = self._new_endpoint(new, model, project, estimate)
            if not await self.store.insert_endpoint(tx, endpoint, endpoint.created_at):
                words = f"the name {endpoint.name!r} is taken"
                raise EndpointNameTaken(
                    words,
                    suggestion="Choose another name, or leave it out.",
                    errors=[FieldError("name", "endpoint_name_taken", words)],
                )
            await self.inference.tell(tx, endpoint, "endpoint.created")
            await self._nudge(tx)
            view = (await self.inference.views(tx, (endpoint,)))[endpoint.id]
            detail = {**endpoint.described(), "replicas": [endpoint.min_replicas, endpoint.max_replicas]}
            await self.auditor.audit(tx, principal, "endpoint.create", endpoint.id, detail=detail)
        return view

    async def scale(self, principal: Principal, ref: str, wanted: Mapping[str, Any]) -> EndpointView:
        """Change limits and policy. A parked endpoint is tried again. Raises UnknownEndpoint, NotNow, BadEndpoint."""
        async with self.db.transaction() as tx:
            endpoint = await self._locked(tx, principal, ref, "scale")
            values = wishes.check_scale(endpoint, wanted)
            told = {name: getattr(value, "value", value) for name, value in values.items()}
            await self.inference.tell(tx, endpoint, "endpoint.changed", told)
            again = {"parked_at": None, "failures": 0} if endpoint.parked_at is not None else {}
            return await self._want(tx, principal, endpoint, "scale", {**values, **again}, told)

    async def drain(self, principal: Principal, ref: str) -> EndpointView:
        """Take it out of the routes, let its requests finish, then end its replicas. Raises UnknownEndpoint, NotNow."""
        async with self.db.transaction() as tx:
            endpoint = await self._locked(tx, principal, ref, "drain")
            values = {
                "desired": Desired.STOP.value,
                "stop_code": ReasonCode.DRAINED.value,
                "status_reason": because(ReasonCode.DRAINING).to_json(),
            }
            await self.inference.tell(tx, endpoint, "endpoint.draining", {})
            return await self._want(tx, principal, endpoint, "drain", values)

    async def resume(self, principal: Principal, ref: str) -> EndpointView:
        """Want it again: after a drain, when it was parked, or before anybody asks for it. Raises UnknownEndpoint,
        NotNow."""
        async with self.db.transaction() as tx:
            endpoint = await self._locked(tx, principal, ref, "resume")
            values = {
                "desired": Desired.RUN.value,
                "stop_code": None,
                "parked_at": None,
                "failures": 0,
                "wanted": max(1, endpoint.min_replicas),
                # Its idle time begins now.
                "scaling": Memory(1, self.clock.now()).to_json(),
            }
            await self.inference.tell(tx, endpoint, "endpoint.resumed", {})
            return await self._want(tx, principal, endpoint, "resume", values)

    async def rollout(self, principal: Principal, ref: str, model_ref: str | None) -> EndpointView:
        """Replace its replicas by fresh ones, of another model where one is named. Naming the model it serves calls a
        rollout to another one off. Raises UnknownEndpoint, UnknownModel, NotNow, BadEndpoint, ModelTooLarge."""
        model = await self.inference.catalogue.get_model(principal, model_ref) if model_ref is not None else None
        async with self.db.transaction() as tx:
            endpoint = await self._locked(tx, principal, ref, "rollout")
            if endpoint.next_model is not None and model is not None and model.id == endpoint.model:
                await self.store.call_off(tx, endpoint, self.clock.now())
                await self.inference.tell(tx, endpoint, "endpoint.rollout_called_off", {"model": model.name})
                return await self._want(tx, principal, endpoint, "rollout", {}, {"called_off": True})
            replicas = await self.store.replicas(tx, endpoint.project, endpoint.id)
            if endpoint.next_model is not None or any(_is_old(one, endpoint) for one in replicas):
                raise NotNow(
                    f"a rollout of {endpoint.name} is under way",
                    code="rollout_under_way",
                    suggestion="Wait until it is done; name the model that it serves now to call it off.",
                )
            other = model is not None and model.id != endpoint.model
            if model is not None:
                self._require_launched(model)
            values: dict[str, Any] = {"version": endpoint.version + 1, "parked_at": None, "failures": 0}
            if model is not None and other:
                values["next_model"] = model.id
            told = {"version": endpoint.version + 1, "model": model.name if model else None}
            await self.inference.tell(tx, endpoint, "endpoint.rollout", told)
            return await self._want(tx, principal, endpoint, "rollout", values, told)

    async def remove(self, principal: Principal, ref: str) -> EndpointView:
        """Stop it and free its name. Its usage stays. Raises UnknownEndpoint, NotNow."""
        async with self.db.transaction() as tx:
            endpoint = await self._locked(tx, principal, ref, "remove")
            reason = because(ReasonCode.STOPPING)
            await self.store.remove_endpoint(
                tx, endpoint.project, endpoint.id, self.clock.now(), replace(reason, code=ReasonCode.REMOVED)
            )
            await self.inference.tell(tx, endpoint, "endpoint.removed")
            return await self._want(tx, principal, endpoint, "remove", {})

    async def load(self, principal: Principal, ref: str) -> LoadView:
        """Raises UnknownEndpoint, OperatorOnly."""
        since = self.clock.now() - FRESH
        async with self.db.reading() as tx:
            endpoint = await self._mine(tx, principal, ref)
            view = (await self.inference.views(tx, (endpoint,)))[endpoint.id]
            demands = await self.inference.demand.of_endpoint(tx, endpoint.id, since)
            newest = await self.inference.demand.newest(tx, endpoint.id, since)
            gateways = await self.inference.demand.gateways(tx, since)
            starts = await self.store.cold_starts(tx, endpoint.project, endpoint.id, _SHOWN_STARTS)
        load = EndpointLoad(gateways, added(endpoint.id, demands), newest)
        return LoadView(view, load, tuple(starts))

    async def events(self, principal: Principal, ref: str, page: PageRequest) -> Page[Event]:
        """Raises UnknownEndpoint, OperatorOnly."""
        async with self.db.reading() as tx:
            endpoint = await self._mine(tx, principal, ref)
            return await self.inference.events.list(tx, endpoint.project, endpoint.id, page)

    async def read_log(
        self, principal: Principal, ref: str, replica: str | None, offset: int | None, limit: int, tail: int | None
    ) -> LogChunk:
        """Of one replica's newest attempt: from `offset`, or the last `tail` lines within `limit` bytes. Raises
        UnknownEndpoint, OperatorOnly, NothingToRead."""
        project, workload = await self._log_of(principal, ref, replica)
        if offset is not None:
            return await self.logs.logs(project, workload, 0, offset, limit)
        size = (await self.logs.logs(project, workload, 0, 0, 1)).size
        chunk = await self.logs.logs(project, workload, 0, max(0, size - limit), limit)
        if tail is None:
            return chunk
        lines = chunk.data.splitlines(keepends=True)
        kept = b"".join(lines[-tail:]) if tail else b""
        return replace(chunk, data=kept, offset=chunk.next_offset - len(kept))

    async def follow_log(
        self, principal: Principal, ref: str, replica: str | None, offset: int
    ) -> AsyncIterator[bytes]:
        """Raises as `read_log`."""
        project, workload = await self._log_of(principal, ref, replica)
        return self.logs.follow_logs(project, workload, 0, offset)

    def why_not(self, principal: Principal, view: EndpointView) -> dict[str, str | None]:
        """For each verb, why it cannot be done now; None: it can."""
        return wishes.why_not(view, principal)

    async def _prepare(self, principal: Principal, new: NewEndpoint) -> tuple[Model, NewEndpoint, Estimate]:
        if new.kind is EndpointKind.SHARED and not principal.operator:
            raise OperatorOnly(
                "shared endpoints are made by the operator of this cloud",
                suggestion="Ask for kind dedicated, which serves your project alone.",
            )
        model = await self.inference.catalogue.get_model(principal, new.model)
        driver = self.inference.drivers[model.engine]
        if driver.launches and model.here:
            needs = driver.plan(model, "").accelerators  # refuses what could never start
            new = replace(new, accelerators=needs) if needs and new.accelerators is None else new
        new = wishes.check_new(new, model, launches=driver.launches)
        sku = await self.estimates.choose_sku(new)
        charge_by = "time" if new.kind is EndpointKind.DEDICATED else "tokens"
        return model, new, await self.estimates.of(new, model.name, sku, charge_by)

    def _new_endpoint(self, new: NewEndpoint, model: Model, project: ProjectId, estimate: Estimate) -> Endpoint:
        now = self.clock.now()
        return Endpoint(
            id=EndpointId(self.inference.new_id("ep")),
            project=project,
            name=new.name or _name_after(model),
            model=ModelId(model.id),
            kind=new.kind,
            shared=new.kind is EndpointKind.SHARED,
            capacity_class=new.capacity_class,
            charge_by=estimate.charge_by,
            min_replicas=estimate.least,
            max_replicas=estimate.most,
            desired=Desired.RUN,
            status=EndpointStatus.STARTING,
            reason=because(ReasonCode.NEW),
            created_at=now,
            updated_at=now,
            target_concurrency=new.target_concurrency,
            idle_timeout_seconds=new.idle_timeout_seconds,
            policy=new.policy,
            queue_seconds=new.queue_seconds,
            accelerators=estimate.accelerators,
            sku=estimate.sku,
            wanted=max(1, estimate.least),
        )

    def _require_launched(self, model: Model) -> None:
        driver = self.inference.drivers[model.engine]
        if not driver.launches:
            words = f"{model.name} is served by upstreams, of which nobody can have replicas of their own"
            errors = [FieldError("model", "upstream_model", words)]
            raise BadEndpoint(words, code="upstream_model", errors=errors)
        driver.plan(model, "")

    async def _mine(self, tx: Tx, principal: Principal, ref: str) -> Endpoint:
        """One that the principal may look into. Raises UnknownEndpoint, OperatorOnly."""
        endpoint = await self.inference.require(tx, principal, ref)
        if endpoint.kind is EndpointKind.SHARED and not principal.operator:
            raise _operators(endpoint)
        return endpoint

    async def _locked(self, tx: Tx, principal: Principal, ref: str, verb: str) -> Endpoint:
        """Raises UnknownEndpoint, OperatorOnly, NotNow."""
        endpoint = await self.inference.require(tx, principal, ref, lock=True)
        if endpoint.kind is EndpointKind.SHARED and not principal.operator:
            raise _operators(endpoint)
        view = (await self.inference.views(tx, (endpoint,)))[endpoint.id]
        reason = self.why_not(principal, view)[verb]
        if reason is not None:
            raise NotNow(f"{verb} of {endpoint.name}: {reason}", suggestion="`actions` of the endpoint says what is.")
        return endpoint

    async def _want(
        self,
        tx: Tx,
        principal: Principal,
        endpoint: Endpoint,
        verb: str,
        values: Mapping[str, Any],
        detail: dict[str, Any] | None = None,
    ) -> EndpointView:
        await self.store.want(tx, endpoint.project, endpoint.id, values, self.clock.now())
        await self._nudge(tx)
        again = await self.inference.require(tx, principal, endpoint.id)
        view = (await self.inference.views(tx, (again,)))[endpoint.id]
        await self.auditor.audit(tx, principal, f"endpoint.{verb}", endpoint.id, detail=detail)
        return view

    async def _nudge(self, tx: Tx) -> None:
        await notify(tx, WORK, KIND)
        await notify(tx, ROUTES)

    async def _log_of(self, principal: Principal, ref: str, replica: str | None) -> tuple[ProjectId, WorkloadId]:
        async with self.db.reading() as tx:
            endpoint = await self._mine(tx, principal, ref)
            id = ReplicaId(replica) if replica is not None else None
            found = await self.store.newest_replica(tx, endpoint.project, endpoint.id, id)
        if found is None or found.workload is None:
            raise NothingToRead(
                f"{endpoint.name} has no such replica with a log",
                suggestion="`replicas` of the endpoint names those there are; upstreams have no log here.",
            )
        return endpoint.project, found.workload


def added(endpoint: EndpointId, demands: list[Demand]) -> Demand:
    """As if there were one gateway. The time to the first token is that of the average request."""
    rate = sum(one.requests_per_minute for one in demands if one.first_token_ms)
    weighted = sum(one.first_token_ms * one.requests_per_minute for one in demands)
    return Demand(
        endpoint=endpoint,
        in_flight=sum(one.in_flight for one in demands),
        waiting=sum(one.waiting for one in demands),
        longest_wait_seconds=max((one.longest_wait_seconds for one in demands), default=0.0),
        requests_per_minute=sum(one.requests_per_minute for one in demands),
        tokens_per_second=sum(one.tokens_per_second for one in demands),
        first_token_ms=weighted / rate if rate else max((one.first_token_ms for one in demands), default=0.0),
        batch_waiting=sum(one.batch_waiting for one in demands),
    )


def _is_old(replica: Replica, endpoint: Endpoint) -> bool:
    return replica.version != endpoint.version and replica.status is not ReplicaStatus.DRAINING


def _name_after(model: Model) -> str:
    """The model's name and something random: names are unique over all projects."""
    base = model.name.rpartition("/")[2].lower().replace(":", "-")[:100]
    return f"{base}-{''.join(secrets.choice(_SUFFIX) for _ in range(6))}"


def _operators(endpoint: Endpoint) -> OperatorOnly:
    return OperatorOnly(
        f"{endpoint.name} is a shared endpoint, the operator's",
        suggestion="Make a dedicated endpoint of its model to have one of your own.",
    )
