"""A gateway without a database: snapshot set by hand, a bank that grants from a purse, a real journal."""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from skerry.identity.model import KeyLimits, KeyRecord, Scope
from skerry.inference.engines.base import EngineKind, EngineProfile
from skerry.inference.gateway.balances import Grant
from skerry.inference.gateway.connection import accept
from skerry.inference.gateway.errors import Denied
from skerry.inference.gateway.gateway import Gateway
from skerry.inference.gateway.pricing import PriceSchedule, TokenPrice
from skerry.inference.gateway.snapshot import Pools
from skerry.inference.model import EndpointStatus, Route, RouteReplica
from skerry.kernel.errors import Unavailable
from skerry.kernel.ids import EndpointId, KeyId, ModelId, OrganizationId, ProjectId, ReplicaId
from skerry.runtime.journal.reader import Position, read_batch
from skerry.runtime.journal.records import AnswerRecord
from skerry.runtime.journal.writer import JournalWriter
from skerry.runtime.settings import Settings

KEY = "sk-test"
PROFILE = EngineProfile(
    EngineKind.EXTERNAL,
    frozenset({"temperature", "top_p", "stop", "seed", "n", "tools", "tool_choice", "logprobs", "echo"}),
    cached_tokens_in_usage=True,
)
PRICE = TokenPrice(0, 50_000_000_000, 25_000_000_000, 100_000_000_000)
"""0.05, 0.025 and 0.10 per million tokens."""


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def key(
    secret: str = KEY,
    *,
    scopes: frozenset[Scope] = frozenset({Scope.INFERENCE}),
    models: frozenset[str] | None = None,
    expires_at: datetime | None = None,
    revoked_at: datetime | None = None,
    limits: KeyLimits | None = None,
    project: str = "proj_1",
) -> KeyRecord:
    return KeyRecord(
        digest=digest(secret),
        key_id=KeyId(f"key_{secret}"),
        project_id=ProjectId(project),
        organization_id=OrganizationId("org_1"),
        scopes=scopes,
        models=models,
        expires_at=expires_at,
        revoked_at=revoked_at,
        limits=limits or KeyLimits(),
        seq=1,
    )


def route(*urls: str, name: str = "fake", upstream: str = "fake", context: int = 8192, **more: object) -> Route:
    replicas = tuple(RouteReplica(ReplicaId(f"rep_{n}"), url, "replica-key", 4) for n, url in enumerate(urls))
    values: dict[str, object] = dict(
        name=name,
        endpoint=EndpointId(f"ep_{name}"),
        model=ModelId(f"model_{name}"),
        model_name=name,
        project=None,
        context_length=context,
        profile=PROFILE,
        upstream_model=upstream,
        site="local",
        capacity_class="on_demand",
        charge_by="tokens",
        status=EndpointStatus.READY,
        status_reason="",
        replicas=replicas,
    )
    return Route(**{**values, **more})


class Purse:
    """A bank with one sum of money for everybody."""

    def __init__(self, nano: int = 10**18) -> None:
        self.limit = self.left = nano
        self.away = False
        self.asked = 0

    async def lease(self, account: str, minimum: int, wanted: int, grow: str | None) -> Grant:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("The database is away", code="database_unavailable", retry_after=1)
        if self.left < minimum:
            raise Denied(self.left, self.limit, "key", "total")
        amount = min(wanted, max(minimum, self.left // 4))
        self.left -= amount
        return Grant(grow or f"lease_{self.asked}", amount, 60.0)


class Bench:
    """A running gateway with its parts at hand."""

    def __init__(self, gateway: Gateway, port: int, folder: Path, purse: Purse) -> None:
        self.gateway, self.port, self.folder, self.purse = gateway, port, folder, purse
        self.url = f"http://127.0.0.1:{port}"

    def routes(self, *routes: Route, price: TokenPrice = PRICE) -> None:
        prices = {r.name: PriceSchedule("USD", (price,)) for r in routes}
        gone = self.gateway.snapshot.put_routes(routes, prices, Pools())
        self.gateway.waiting_room.admit(self.gateway.snapshot.routes.values(), gone)

    def keys(self, *records: KeyRecord) -> None:
        self.gateway.snapshot.put_keys(records, 6_000_000, 6_000_000_000)

    @property
    def waiting(self) -> int:
        """Requests that wait for a replica."""
        return sum(len(state.queue) for state in self.gateway.snapshot.routes.values())

    def records(self) -> list[AnswerRecord]:
        batch = read_batch(self.folder, Position())
        return [record for record in batch.records if isinstance(record, AnswerRecord)]

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running(
    purse: Purse | None = None, server_url: str = "http://127.0.0.1:1", port: int = 0, **settings: object
):
    """A gateway on a free port, trusted for ever, with the key `sk-test`."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "journal"
        bank = purse or Purse()
        journal = JournalWriter(folder, segment_bytes=4 * 1024 * 1024, reserve_bytes=64 * 1024)

        def accounts_wanted(state, retry):
            state.accounts = (gateway.balances.account("acc_1", "key"),)
            state.ready = True
            retry()

        gateway = Gateway(
            Settings(home=Path(home), state=Path(home), server_url=server_url, **settings),
            journal,
            bank,
            lambda secret: (hashlib.sha256(secret).digest(),),
        )
        gateway.accounts_wanted = accounts_wanted
        gateway.snapshot.fresh_at = float("inf")

        loop = asyncio.get_running_loop()
        journal.start(loop)
        server = await loop.create_server(lambda: accept(gateway), "127.0.0.1", port, backlog=4096)
        stopping = asyncio.Event()
        house = asyncio.create_task(gateway.keep_house(stopping))
        bench = Bench(gateway, server.sockets[0].getsockname()[1], folder, bank)
        bench.keys(key())
        try:
            yield bench
        finally:
            stopping.set()
            server.close()
            await gateway.drain(1.0)
            await house
            journal.close()
