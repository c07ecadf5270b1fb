"""A request log on a real database, fed through the intake of journals."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from skerry.db.database import Database, Tx
from skerry.identity.model import Principal, Scope
from skerry.inference.requests.service import RequestLog
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import KeyId, OrganizationId, ProjectId, new_uuid7
from skerry.metering.journal_intake import JournalIntake
from skerry.metering.service import Metering
from skerry.runtime.journal.reader import Position
from skerry.runtime.journal.records import AnswerRecord, Record
from skerry.runtime.secrets import Keyring

DEMO, OTHER = ProjectId("proj_demo"), ProjectId("proj_other")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Make = Callable[..., AnswerRecord]


def us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def reader(project: ProjectId = DEMO, *, operator: bool = False) -> Principal:
    return Principal(
        KeyId("key_1"), "reader", OrganizationId("org_1"), project, frozenset({Scope.READ}), operator=operator
    )


class Names:
    """Two keys of the demo project."""

    def __init__(self) -> None:
        self.keys = {KeyId("key_1"): "nightly", KeyId("key_2"): "web 100%"}

    async def key_names(self, tx: Tx, project: ProjectId, ids: set[KeyId]) -> dict[KeyId, str]:
        return {id: name for id, name in self.keys.items() if id in ids and project == DEMO}

    async def keys_called(self, tx: Tx, project: ProjectId, text: str, *, part: bool = False) -> set[KeyId]:
        found = {id for id, name in self.keys.items() if (text.lower() in name.lower() if part else text == name)}
        return found if project == DEMO else set()

    async def currency(self, tx: Tx) -> str:
        return "EUR"


class NoLedger:
    async def settle(self, tx, spent) -> None: ...

    async def close_leases(self, tx, journal, watermark) -> None: ...


class Intake:
    """Ships one batch after the other, as the shipper does."""

    def __init__(self, intake: JournalIntake) -> None:
        self.intake = intake
        self.positions: dict[str, Position] = {}

    async def __call__(self, *records: Record, journal: str = "gw_1") -> None:
        start = self.positions.get(journal, Position())
        end = self.positions[journal] = Position(1, start.offset + 100)
        await self.intake.ship(journal, start, end, list(records))


@pytest.fixture
def keyring() -> Keyring:
    return Keyring([("k1", b"a secret of the tests")])


@pytest.fixture
def log(database: Database, clock: FakeClock, keyring: Keyring) -> RequestLog:
    return RequestLog(database, clock, keyring, Names(), Names(), days=30)


@pytest.fixture
def ship(database: Database, clock: FakeClock, log: RequestLog) -> Intake:
    return Intake(JournalIntake(database, clock, Metering(database, clock), NoLedger(), answers=log))


@pytest.fixture
def answer(clock: FakeClock) -> Make:
    """An answer that ended now and took a second, unless told otherwise; each call is a millisecond later."""

    def make(**changes: object) -> AnswerRecord:
        end = us(clock.advance(milliseconds=1))
        record = AnswerRecord(
            id=new_uuid7(end // 1000).bytes, project=DEMO, key="key_1", model="smol", endpoint="ep_1",
            replica="rep_1", site="local", capacity_class="on_demand", charge_by="tokens", prompt=10, cached=3,
            completion=5, egress_bytes=321, t0=end - 1_000_000, t1=end, counted="engine", status=200,
            cost_nano=1_500, stream=True, queue_us=20_000, first_us=90_000,
        )  # fmt: skip
        return msgspec.structs.replace(record, **changes)

    return make
