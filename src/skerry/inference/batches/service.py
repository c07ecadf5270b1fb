"""Batches: created, looked at, cancelled. What runs them is in `reconciler` and `runner`."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from skerry.artifacts.files.model import BATCH, File, Within
from skerry.billing.model import PriceTarget, TokenPrice, TokenSchedule, batch_atto
from skerry.db.database import Database, Tx
from skerry.db.notify import WORK, notify
from skerry.identity.model import Principal, Project
from skerry.inference.batches import rules
from skerry.inference.batches.errors import (
    BatchNotCancellable,
    KeyElsewhere,
    NotABatchFile,
    TooManyBatches,
    UnknownBatch,
)
from skerry.inference.batches.model import (
    MAX_OPEN,
    TRANSITIONS,
    Batch,
    BatchStatus,
    Estimate,
    NewBatch,
    ReasonCode,
    because,
)
from skerry.inference.batches.rules import InputCheck
from skerry.inference.batches.store import BATCHES, BatchStore
from skerry.inference.model import Route
from skerry.kernel.clock import Clock
from skerry.kernel.errors import FieldError, Malformed
from skerry.kernel.ids import BatchId, FileId, IdFactory, ProjectId, new_id
from skerry.kernel.money import decimal_from_atto
from skerry.runtime.events import EventLog
from skerry.runtime.state import transition

KIND: Final = "batch"
"""Payload of the hint to the reconciler."""
ROWS: Final = "batch_rows"
"""Payload of the hint to the runner."""
_OVERHEAD: Final = 256
"""Tokens that a template may add to a prompt, beside what its bytes explain."""


class BatchFiles(Protocol):
    """What is needed of files (artifacts)."""

    async def get(self, principal: Principal, id: str) -> File: ...

    def lines(self, project: ProjectId, id: FileId, start_offset: int = 0) -> AsyncIterator[tuple[int, bytes]]: ...

    async def write(
        self,
        project: ProjectId,
        *,
        filename: str,
        purpose: str,
        chunks: AsyncIterator[bytes],
        expires_after: int | None = None,
        within: Within | None = None,
    ) -> File: ...


class Homes(Protocol):
    """What is needed of identity: where an operator's key calls models."""

    async def default_project(self, tx: Tx) -> Project: ...


class Served(Protocol):
    """What is needed of endpoints, to estimate (`Inference`)."""

    async def routes(self, tx: Tx) -> list[Route]: ...


class Prices(Protocol):
    """What is needed of billing, to estimate (`PriceBooks`)."""

    async def currency(self, tx: Tx) -> str: ...

    async def model_prices(self, tx: Tx, targets: set[PriceTarget]) -> dict[PriceTarget, TokenSchedule]: ...


@dataclass(frozen=True, slots=True)
class _Offer:
    """What a model's rows can be and cost."""

    context: int
    price: TokenPrice


class Batches:
    def __init__(
        self,
        db: Database,
        clock: Clock,
        events: EventLog,
        files: BatchFiles,
        served: Served,
        prices: Prices,
        homes: Homes,
        *,
        ids: IdFactory = new_id,
    ) -> None:
        self.db = db
        self.clock = clock
        self.events = events
        self.files = files
        self.served = served
        self.prices = prices
        self.homes = homes
        self.new_id = ids
        self.store = BatchStore()

    async def create(self, principal: Principal, new: NewBatch) -> Batch:
        """A batch that runs on the principal's key. Its rows are checked afterwards, and each by itself.

        Raises UnknownFile, NotABatchFile, Malformed for the window, KeyElsewhere, TooManyBatches.
        """
        window = rules.window_of(new.completion_window)
        if window is None:
            words = f"completion_window can be 24h, or any whole hours up to a week, not {new.completion_window[:20]!r}"
            raise Malformed(words, code="invalid_value", errors=[FieldError("completion_window", "invalid", words)])
        await self._input_file(principal, new.input_file)
        now = self.clock.now()
        batch = Batch(
            id=BatchId(self.new_id("batch")),
            project=principal.project_id,
            key=principal.key_id,
            endpoint=new.endpoint,
            input_file=new.input_file,
            completion_window=new.completion_window,
            metadata=new.metadata,
            status=BatchStatus.VALIDATING,
            reason=because(ReasonCode.READING),
            created_at=now,
            updated_at=now,
            expires_at=now + window,
        )
        async with self.db.transaction() as tx:
            if principal.operator and batch.project != (await self.homes.default_project(tx)).id:
                raise KeyElsewhere
            if await self.store.count_open(tx, batch.project) >= MAX_OPEN:
                raise TooManyBatches(
                    f"this project has {MAX_OPEN} batches that have not ended",
                    suggestion="Wait until some have, or cancel them.",
                    retry_after=60,
                )
            await self.store.insert(tx, batch)
            await self.events.record(
                tx,
                project=batch.project,
                resource=batch.id,
                resource_kind=KIND,
                type="batch.created",
                data={"input_file": batch.input_file, "endpoint": batch.endpoint.value, "key": batch.key},
            )
            await notify(tx, WORK, KIND)
        return batch

    async def estimate(self, principal: Principal, new: NewBatch) -> Estimate:
        """What `create` would start, with the most it can cost at the prices of now. Changes nothing.

        Raises as `create`.
        """
        await self._input_file(principal, new.input_file)
        async with self.db.reading() as tx:
            offers = await self._offers(tx, principal)
            currency = await self.prices.currency(tx)
        check = InputCheck(new.endpoint)
        models: dict[str, int] = {}
        atto = number = 0
        async for _, line in self.files.lines(principal.project_id, FileId(new.input_file)):
            number += 1
            row = check.line(number, line)
            if check.enough:
                break
            if row is None:
                continue
            models[row.model] = models.get(row.model, 0) + 1
            offer = offers.get(row.model)
            if offer is not None:
                prompt, completion = rules.ceiling(row, offer.context, _OVERHEAD)
                price = max(batch_atto(offer.price.prompt), batch_atto(offer.price.cached))
                atto += prompt * price + completion * batch_atto(offer.price.completion)
        unknown = tuple(sorted(models.keys() - offers.keys()))
        return Estimate(check.rows, models, unknown, decimal_from_atto(atto), currency, check.verdict())

    async def get(self, principal: Principal, id: str) -> Batch:
        """Raises UnknownBatch."""
        async with self.db.reading() as tx:
            return await self._require(tx, principal, id)

    async def list(self, principal: Principal, after: str | None, limit: int) -> tuple[list[Batch], bool]:
        """The newest first, after the batch `after`; and whether there are more."""
        async with self.db.reading() as tx:
            found = await self.store.page(tx, principal.project_id, BatchId(after) if after else None, limit)
        return found[:limit], len(found) > limit

    async def cancel(self, principal: Principal, id: str) -> Batch:
        """Send no more of its rows. Raises UnknownBatch, BatchNotCancellable."""
        while True:
            async with self.db.transaction() as tx:
                batch = await self._require(tx, principal, id)
                if (why := rules.why_not_cancellable(batch.status)) is not None:
                    raise BatchNotCancellable(
                        f"this batch cannot be cancelled: {why}", suggestion="There is nothing left to stop."
                    )
                if batch.status is BatchStatus.CANCELLING or await self._to_cancelling(tx, batch):
                    return await self._require(tx, principal, id)
            # It moved on by itself in between. A status is never left for an earlier one, so this ends.

    async def _to_cancelling(self, tx: Tx, batch: Batch) -> bool:
        """False: it is not in the status any more that it was read with."""
        now = self.clock.now()
        moved = await transition(
            tx,
            self.events,
            TRANSITIONS,
            BATCHES,
            id=batch.id,
            project=batch.project,
            before=batch.status,
            after=BatchStatus.CANCELLING,
            reason=because(ReasonCode.BY_OWNER),
            values={"cancelling_at": now, "due_at": now},
            kind=KIND,
        )
        if moved:
            await notify(tx, WORK, KIND)
            await notify(tx, WORK, ROWS)
        return moved

    async def currency(self) -> str:
        async with self.db.reading() as tx:
            return await self.prices.currency(tx)

    async def _input_file(self, principal: Principal, id: str) -> File:
        file = await self.files.get(principal, id)
        if file.purpose != BATCH:
            raise NotABatchFile(id, file.purpose)
        return file

    async def _require(self, tx: Tx, principal: Principal, id: str) -> Batch:
        batch = await self.store.get(tx, principal.project_id, BatchId(id))
        if batch is None:
            raise UnknownBatch(f"there is no batch {id[:64]}", suggestion="GET /v1/batches lists them.")
        return batch

    async def _offers(self, tx: Tx, principal: Principal) -> Mapping[str, _Offer]:
        """By name, what the principal may call."""
        routes = [
            route
            for route in await self.served.routes(tx)
            if route.project in (None, principal.project_id)
            and (principal.models is None or route.name in principal.models)
        ]
        targets = {
            route.name: PriceTarget(route.model_name, route.site, route.capacity_class, route.charge_by)
            for route in routes
        }
        schedules = await self.prices.model_prices(tx, set(targets.values()))
        return {route.name: _Offer(route.context_length, schedules[targets[route.name]].prices[0]) for route in routes}
