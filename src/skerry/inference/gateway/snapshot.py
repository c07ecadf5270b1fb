"""What the gateway knows by heart: keys, routes, prices, accounts. Replaced by `control`, read by the hot path."""

import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from skerry.identity.model import KeyRecord, Scope
from skerry.inference.engines.base import EngineKind
from skerry.inference.gateway.balances import Account
from skerry.inference.gateway.limits import Bucket
from skerry.inference.gateway.pricing import PriceSchedule
from skerry.inference.gateway.upstream import Address, Pool
from skerry.inference.gateway.wire import ChatRequest, CompletionRequest, FieldsUnset, optional_fields
from skerry.inference.model import Route, RouteReplica
from skerry.kernel.errors import Unavailable

STALE_SECONDS = 300.0
"""With the database away this long keys are no longer trusted: one may have been revoked (DESIGN §7)."""
LIMIT_HEADERS = b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-limit-tokens: %d\r\n"


@dataclass(slots=True, eq=False)
class KeyState:
    """One key with what it has used. `expires` is Unix seconds."""

    id: str
    project: str
    organization: str
    may_infer: bool
    models: frozenset[str] | None
    expires: float
    revoked: bool
    requests: Bucket
    tokens: Bucket
    accounts: tuple[Account, ...] = ()
    ready: bool = False
    """Whether `accounts` are known; until then the key's first request waits."""
    trouble: Unavailable | None = None
    """Why `accounts` could not be read the last time."""
    limit_headers: bytes = b""


@dataclass(slots=True, eq=False)
class ReplicaState:
    """One server as this gateway sees it."""

    replica: RouteReplica
    pool: Pool
    chat_head: bytes
    completion_head: bytes
    in_flight: int = 0
    shared: bool = True
    """Whether connections may carry several projects' requests, one after the other: only to servers of our own."""
    down_until: float = 0.0
    """Monotonic seconds until which it is passed over after a failed connection."""
    id_header: bytes = b""


@dataclass(slots=True, eq=False)
class RouteState:
    """One endpoint: its replicas, and the requests that wait for one."""

    route: Route
    prices: PriceSchedule
    unset: dict[type, FieldsUnset]
    """By kind of request: checks that the parameters its engine does not have are not set."""
    replicas: list[ReplicaState] = field(default_factory=list)
    turn: int = 0

    def pick(self, now: float, avoid: ReplicaState | None = None) -> ReplicaState | None:
        """The ready replica with the fewest requests; equal ones take turns."""
        best: ReplicaState | None = None
        count = len(self.replicas)
        for step in range(count):
            candidate = self.replicas[(self.turn + step) % count]
            if candidate is avoid or candidate.down_until > now:
                continue
            if best is None or candidate.in_flight < best.in_flight:
                best = candidate
        self.turn = (self.turn + 1) % count if count else 0
        return best


class Snapshot:
    """All of it. Lookups only; nothing here waits."""

    def __init__(self) -> None:
        self.keys: dict[bytes, KeyState] = {}
        self.routes: dict[str, RouteState] = {}
        self.fresh_at = 0.0
        """Monotonic seconds of the last time all of it was known to be current."""

    def is_trusted(self, now: float) -> bool:
        return bool(self.fresh_at) and now - self.fresh_at < STALE_SECONDS

    def put_keys(self, records: Iterable[KeyRecord], requests_limit: int, tokens_limit: int) -> None:
        """Take over new and changed keys; what a key has used so far stays counted."""
        now = time.monotonic()
        for record in records:
            requests = record.limits.requests_per_minute or requests_limit
            tokens = record.limits.tokens_per_minute or tokens_limit
            old = self.keys.get(record.digest)
            if old is None:
                old = self.keys[record.digest] = KeyState(
                    record.key_id, record.project_id, record.organization_id, False, None, 0.0, False,
                    Bucket.full(requests, now), Bucket.full(tokens, now),
                )  # fmt: skip
            old.may_infer = bool(record.scopes & {Scope.INFERENCE, Scope.OPERATOR})
            old.models = record.models
            old.expires = record.expires_at.timestamp() if record.expires_at else float("inf")
            old.revoked = record.revoked_at is not None
            old.requests.resize(requests, now)
            old.tokens.resize(tokens, now)
            old.limit_headers = LIMIT_HEADERS % (requests, tokens)

    def put_routes(self, routes: Iterable[Route], prices: dict[str, PriceSchedule], pools: "Pools") -> None:
        """Take over the routes; replicas that stay keep their connections and counts."""
        kept = {state.replica: state for route in self.routes.values() for state in route.replicas}
        fresh: dict[str, RouteState] = {}
        for route in routes:
            state = RouteState(route, prices[route.model_name], _refused(route))
            state.replicas = [
                kept.pop(replica) if replica in kept else pools.replica(replica, route) for replica in route.replicas
            ]
            fresh[route.name] = state
        self.routes = fresh
        for gone in kept.values():
            gone.pool.retire()


class Pools:
    """Makes the states of new replicas."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls

    def replica(self, replica: RouteReplica, route: Route) -> ReplicaState:
        address = Address.parse(replica.base_url)
        pool = Pool(address, self._tls)
        common = (
            b" HTTP/1.1\r\nhost: " + address.authority + b"\r\n"
            + (b"authorization: Bearer " + replica.key.encode() + b"\r\n" if replica.key else b"")
            + b"content-type: application/json\r\ncontent-length: "
        )  # fmt: skip
        return ReplicaState(
            replica,
            pool,
            b"POST " + address.base + b"/chat/completions" + common,
            b"POST " + address.base + b"/completions" + common,
            shared=route.profile.kind is not EngineKind.EXTERNAL,
            id_header=b"x-skerry-replica: " + replica.id.encode() + b"\r\n",
        )


def _refused(route: Route) -> dict[type, FieldsUnset]:
    chat = route.profile.parameters
    text = chat if route.profile.completion_parameters is None else route.profile.completion_parameters
    return {
        ChatRequest: FieldsUnset(optional_fields(ChatRequest) - chat),
        CompletionRequest: FieldsUnset(optional_fields(CompletionRequest) - text),
    }
