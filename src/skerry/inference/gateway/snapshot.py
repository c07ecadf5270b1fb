"""What the gateway knows by heart: keys, routes, prices, accounts. Replaced by `control`, read by the hot path."""

import ssl
import time
from collections.abc import Iterable
from typing import Final

from skerry.identity.model import KeyRecord, OrganizationTier, RateLimits, Scope
from skerry.inference.engines.base import PrefixCache
from skerry.inference.gateway.fairness import FairQueue, Tier
from skerry.inference.gateway.fields import FieldsUnset
from skerry.inference.gateway.kinds import KINDS
from skerry.inference.gateway.limits import Allowance, Bucket
from skerry.inference.gateway.metrics import GatewayMetrics
from skerry.inference.gateway.pricing import PriceSchedule
from skerry.inference.gateway.routing.choosing import policy_of
from skerry.inference.gateway.state import KeyState, ReplicaState, RouteState, Waiter
from skerry.inference.gateway.upstream import Address, Pool
from skerry.inference.gateway.wire import (
    ChatRequest,
    CompletionRequest,
    EmbeddingsRequest,
    optional_fields,
)
from skerry.inference.model import Route, RouteReplica

STALE_SECONDS: Final = 300.0
"""With the database away this long keys are no longer trusted: one may have been revoked (DESIGN §7)."""
UNLIMITED: Final = 1_000_000_000
"""Requests or tokens a minute of a project or organization that limits only something else."""


class Snapshot:
    """All of it. Lookups only; nothing here waits."""

    def __init__(self, metrics: GatewayMetrics, queue_limit: int, seed: int = 0) -> None:
        self.keys: dict[bytes, KeyState] = {}
        self.keys_by_id: dict[str, KeyState] = {}
        self.routes: dict[str, RouteState] = {}
        self.fresh_at = 0.0
        """Monotonic seconds of the last time all of it was known to be current."""
        self.gateways = 1
        """How many gateways share the limits."""
        self._shared: dict[str, Allowance] = {}
        """Of projects and organizations, by id."""
        self._records: dict[bytes, KeyRecord] = {}
        self._metrics: GatewayMetrics = metrics
        self._queue_limit = queue_limit
        self._seed = seed
        self._defaults = (0, 0)

    def is_trusted(self, now: float) -> bool:
        return bool(self.fresh_at) and now - self.fresh_at < STALE_SECONDS

    def put_keys(self, records: Iterable[KeyRecord], requests_limit: int, tokens_limit: int) -> None:
        """Take over new and changed keys; what a key has used so far stays counted."""
        self._defaults = (requests_limit, tokens_limit)
        for record in records:
            self._records[record.digest] = record
            self._put_key(record)

    def share_with(self, gateways: int) -> bool:
        """Limits are divided by the number of gateways. Says whether that changed."""
        gateways = max(1, gateways)
        if gateways == self.gateways:
            return False
        self.gateways = gateways
        for record in list(self._records.values()):
            self._put_key(record)
        for route in self.routes.values():
            route.reuse = self._reuses(route.route)
        return True

    def put_routes(self, routes: Iterable[Route], prices: dict[str, PriceSchedule], pools: "Pools") -> list[RouteState]:
        """Take over the routes, with their `prices` by name; replicas that stay keep their connections and counts.

        Gives those that are no more: whoever waits there has to be told.
        """
        fresh: dict[str, RouteState] = {}
        for route in routes:
            schedule = prices[route.name]
            state = self.routes.get(route.name)
            if state is None or state.route.endpoint != route.endpoint:
                shown = route.model_name if route.project is None else ""
                metrics = self._metrics.of(route.endpoint, shown)
                queue: FairQueue[Waiter] = FairQueue(self._queue_limit)
                state = RouteState(route, schedule, policy_of(route.policy, self._seed), metrics, queue)
            elif state.route.policy != route.policy:
                state.replace_policy(policy_of(route.policy, self._seed))
            if state.unset_of != route.profile:
                state.unset = _refused(route)
                state.unset_of = route.profile
            state.update(route, schedule, self._reuses(route))
            _put_replicas(state, route, pools)
            fresh[route.name] = state
        gone = [state for name, state in self.routes.items() if fresh.get(name) is not state]
        for state in gone:
            for replica in state.replicas:
                replica.pool.retire()
        self.routes = fresh
        self._metrics.keep([state.route.endpoint for state in fresh.values()])
        return gone

    def _reuses(self, route: Route) -> bool:
        # What a slot holds is known only where nobody else uses the slots.
        return route.profile.prefix_cache is PrefixCache.SLOTS and self.gateways == 1

    def _put_key(self, record: KeyRecord) -> None:
        now = time.monotonic()
        requests_limit, tokens_limit = self._defaults
        limits = record.limits
        requests = self._part(limits.requests_per_minute or requests_limit)
        tokens = self._part(limits.tokens_per_minute or tokens_limit)
        key = self.keys.get(record.digest)
        if key is None:
            allowance = Allowance("API key", Bucket.full(requests, now), Bucket.full(tokens, now))
            key = KeyState(record.key_id, record.project_id, record.organization_id, allowance)
            self.keys[record.digest] = key
        key.allowance.resize(requests, tokens, self._part(limits.concurrent_requests or 0), now)
        project = self._allowance("project", record.project_id, record.project_limits, now)
        organization = self._allowance("organization", record.organization_id, record.organization_limits, now)
        shared = [allowance for allowance in (project, organization) if allowance is not None]
        key.allowances = (key.allowance, *shared)
        key.may_infer = bool(record.scopes & {Scope.INFERENCE, Scope.OPERATOR})
        key.models = record.models
        key.expires = record.expires_at.timestamp() if record.expires_at else float("inf")
        key.revoked = record.revoked_at is not None
        key.tier = Tier.FREE if record.tier is OrganizationTier.FREE else Tier.PAYING
        key.slowable = key.tier is not Tier.PAYING
        key.log_content = record.log_content
        if not key.revoked or record.key_id not in self.keys_by_id:
            self.keys_by_id[record.key_id] = key

    def _allowance(self, whose: str, id: str, limits: RateLimits, now: float) -> Allowance | None:
        if limits.requests_per_minute is None and limits.tokens_per_minute is None and not limits.concurrent_requests:
            self._shared.pop(id, None)
            return None
        requests = self._part(limits.requests_per_minute or UNLIMITED)
        tokens = self._part(limits.tokens_per_minute or UNLIMITED)
        found = self._shared.get(id)
        if found is None:
            found = self._shared[id] = Allowance(whose, Bucket.full(requests, now), Bucket.full(tokens, now))
        found.resize(requests, tokens, self._part(limits.concurrent_requests or 0), now)
        return found

    def _part(self, limit: int) -> int:
        """This gateway's part of a limit, at least one: together they allow the limit, or as much as there are."""
        return max(1, limit // self.gateways) if limit else 0


class Pools:
    """Makes the states of new replicas."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls

    def replica(self, replica: RouteReplica, route: Route) -> ReplicaState:
        address = Address.parse(replica.base_url)
        common = (
            b" HTTP/1.1\r\nhost: " + address.authority + b"\r\n"
            + (b"authorization: Bearer " + replica.key.encode() + b"\r\n" if replica.key else b"")
            + b"content-type: application/json\r\ncontent-length: "
        )  # fmt: skip
        start = b"POST " + address.base
        heads = [start + kind.path.encode().removeprefix(b"/v1") + common for kind in KINDS]
        return ReplicaState(replica, route, Pool(address, self._tls), heads)


def _put_replicas(state: RouteState, route: Route, pools: Pools) -> None:
    kept = {replica.replica: replica for replica in state.replicas}
    replicas: list[ReplicaState] = []
    for replica in route.replicas:
        known = kept.pop(replica, None)
        if known is None:
            known = pools.replica(replica, route)
            state.policy.joined(known)
        known.slots = route.per_replica or replica.slots
        replicas.append(known)
    for gone in kept.values():
        state.policy.left(gone)
        gone.pool.retire()
    state.put(replicas)


def _refused(route: Route) -> dict[type, FieldsUnset]:
    profile = route.profile
    chat = profile.parameters
    text = chat if profile.completion_parameters is None else profile.completion_parameters
    return {
        ChatRequest: FieldsUnset(optional_fields(ChatRequest) - chat),
        CompletionRequest: FieldsUnset(optional_fields(CompletionRequest) - text),
        EmbeddingsRequest: FieldsUnset(optional_fields(EmbeddingsRequest) - profile.embedding_parameters),
    }
