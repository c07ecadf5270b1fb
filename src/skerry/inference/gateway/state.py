"""What the gateway knows of one key, one replica, one endpoint. Plain classes: the hot path is compiled."""

from collections.abc import Callable

from skerry.inference.engines.base import EngineKind, EngineProfile, PrefixCache
from skerry.inference.engines.llamacpp.slots import Slots
from skerry.inference.gateway.balances import Account
from skerry.inference.gateway.connection import Exchange
from skerry.inference.gateway.errors import ApiError
from skerry.inference.gateway.fairness import FairQueue, Surge, Tier
from skerry.inference.gateway.fields import FieldsUnset
from skerry.inference.gateway.kinds import KINDS
from skerry.inference.gateway.limits import Allowance
from skerry.inference.gateway.metrics import RouteMetrics
from skerry.inference.gateway.pricing import PriceSchedule
from skerry.inference.gateway.routing.base import Policy, Server
from skerry.inference.gateway.upstream import Pool
from skerry.inference.model import Route, RouteReplica
from skerry.kernel.errors import Unavailable


class Waiter(Exchange):
    """A request that may have to wait for a replica."""

    def reroute(self, route: "RouteState") -> None:
        """There may be a replica now: try again."""
        raise NotImplementedError

    def dismissed(self, error: ApiError) -> None:
        """There will be none."""
        raise NotImplementedError


class KeyState:
    """One key with what it has used. `expires` is Unix seconds."""

    def __init__(self, id: str, project: str, organization: str, allowance: Allowance) -> None:
        self.id = id
        self.project = project
        self.organization = organization
        self.may_infer = False
        self.models: frozenset[str] | None = None
        self.expires = 0.0
        self.revoked = False
        self.allowance: Allowance = allowance
        """Its own."""
        self.allowances: tuple[Allowance, ...] = (allowance,)
        """Its own first, then those of its project and organization where they have limits."""
        self.accounts: tuple[Account, ...] = ()
        self.ready = False
        """Whether `accounts` are known; until then the key's first request waits."""
        self.trouble: Unavailable | None = None
        """Why `accounts` could not be read the last time."""
        self.tier: Tier = Tier.PAYING
        self.slowable = False
        """Whether its tier is slowed before others."""
        self.log_content = False


class ReplicaState(Server):
    """One server as this gateway sees it."""

    def __init__(self, replica: RouteReplica, route: Route, pool: Pool, heads: list[bytes]) -> None:
        super().__init__(replica.id, route.per_replica or replica.slots, replica.weight)
        self.replica = replica
        self.pool: Pool = pool
        self.heads = heads
        """By the number of the kind: the request's head up to the number of its content-length."""
        self.shared = route.profile.kind is not EngineKind.EXTERNAL
        """Whether connections may carry several projects' requests, one after the other: only to servers of our own."""
        self.id_header = f"x-skerry-replica: {replica.id}\r\n"
        cache = route.profile.prefix_cache is PrefixCache.SLOTS
        self.cache: Slots | None = Slots(range(replica.slots)) if cache else None
        """Which slot holds whose prompts, where the engine keeps them by slot."""


class RouteState:
    """One endpoint: its replicas, and the requests that wait for one. The same object for as long as it is served."""

    def __init__(
        self, route: Route, prices: PriceSchedule, policy: Policy, metrics: RouteMetrics, queue: "FairQueue[Waiter]"
    ) -> None:
        self.route = route
        self.prices: PriceSchedule = prices
        self.batch_prices: PriceSchedule = prices.for_batches()
        self.unset: dict[type, FieldsUnset] = {}
        """By kind of request: checks that the parameters its engine does not have are not set."""
        self.unset_of: EngineProfile | None = None
        self.policy: Policy = policy
        self.metrics: RouteMetrics = metrics
        self.queue: FairQueue[Waiter] = queue
        self.surge: Surge = Surge()
        self.replicas: list[ReplicaState] = []
        self.servers: list[Server] = []
        """The same objects as `replicas`."""
        self.owner: str | None = None
        self.context = 0
        self.answers: list[bool] = [False, False, False]
        """By the number of the kind: whether it is asked for such."""
        self.salted = False
        self.renames_limit = False
        self.tools = False
        self.renamed = False
        self.reuse = False
        """Whether replicas' slots are this gateway's alone, so that what they hold is known."""
        self.pumping = False

    def update(self, route: Route, prices: PriceSchedule, reuse: bool) -> None:
        if prices != self.prices:
            self.prices = prices
            self.batch_prices = prices.for_batches()
        self.route = route
        self.owner = route.project
        self.context = route.context_length
        profile = route.profile
        self.answers = [kind.task in profile.tasks for kind in KINDS]
        self.salted = profile.prefix_cache is PrefixCache.SALT
        self.renames_limit = profile.max_tokens_field != "max_tokens"
        self.tools = "tools" in route.profile.parameters
        self.renamed = route.upstream_model != route.name
        self.reuse = reuse

    def put(self, replicas: list[ReplicaState]) -> None:
        self.replicas = replicas
        servers: list[Server] = []
        servers.extend(replicas)
        self.servers = servers

    def replace_policy(self, policy: Policy) -> None:
        self.policy = policy
        for server in self.servers:
            policy.joined(server)

    def pick(self, prefix: Callable[[], bytes], tenant: str, now: float, avoid: Server | None) -> ReplicaState | None:
        """The replica this request goes to; None: none can take it now."""
        policy, servers = self.policy, self.servers
        if not servers:
            return None
        known = prefix() if policy.needs_prefix and len(servers) > 1 else b""
        chosen = policy.pick(servers, known, tenant, now, avoid)
        if chosen is None:
            return None
        assert isinstance(chosen, ReplicaState)
        return chosen

    def load(self) -> tuple[int, int]:
        """Requests at replicas now, and what they can take at once."""
        busy = slots = 0
        for server in self.servers:
            busy += server.in_flight
            slots += server.slots
        return busy, slots

    def pump(self, now: float) -> None:
        """Send on whoever waits, for as long as there is room."""
        if self.pumping:
            return  # a waiter that could not go after all: the outer call goes on
        self.pumping = True
        try:
            queue = self.queue
            for _ in range(len(queue)):  # each at most once, whatever becomes of it
                if not self._has_room(now):
                    return
                waiter = queue.pop(now)
                if waiter is None:
                    return
                waiter.reroute(self)
        finally:
            self.pumping = False

    def _has_room(self, now: float) -> bool:
        for server in self.servers:
            if server.in_flight < server.slots and server.down_until <= now and server.weight > 0:
                return True
        return False
