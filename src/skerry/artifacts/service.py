"""The catalogue: what can be served, where it comes from, and who is told when that changes."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import structlog

from skerry.artifacts import rules
from skerry.artifacts.default import DefaultModel
from skerry.artifacts.errors import BadSource, HubOff, ModelNameTaken, UnknownModel
from skerry.artifacts.hub.client import Hub
from skerry.artifacts.hub.fetcher import KIND as FETCH
from skerry.artifacts.hub.rules import HubRef, choose
from skerry.artifacts.hub.store import FetchPlan, weights_path
from skerry.artifacts.model import (
    EngineKind,
    Fetch,
    FetchState,
    Model,
    ModelFacts,
    ModelPrices,
    ModelSource,
    NewModel,
    SourceKind,
    WeightsFormat,
)
from skerry.artifacts.store import ModelStore
from skerry.artifacts.weights import Weights, inspect
from skerry.db.database import Database, Tx
from skerry.db.notify import ROUTES, WORK, notify
from skerry.identity.model import Principal
from skerry.identity.service import Identity
from skerry.kernel.clock import Clock
from skerry.kernel.errors import FieldError, SkerryError
from skerry.kernel.ids import IdFactory, ModelId, ProjectId, new_id
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.events import Event, EventLog
from skerry.runtime.secrets import Keyring, Undecryptable

_KEY_PURPOSE = "artifacts.upstream_key"


class ModelObserver(Protocol):
    """Told in the transaction in which it happens; what it raises undoes the change (inference)."""

    async def model_added(self, tx: Tx, model: Model) -> None: ...

    async def model_removed(self, tx: Tx, model: Model) -> None: ...


class ModelPricing(Protocol):
    """Writes and reads the price rows of a model (billing)."""

    async def set_model_price(self, tx: Tx, model: str, prices: Mapping[str, object]) -> object:
        """`prices` has any of prompt, cached, completion: Decimal per million tokens."""
        ...


@dataclass(frozen=True, slots=True)
class HubHere:
    """The hub that models are taken from, and the folder they are put in."""

    hub: Hub
    folder: Path


@dataclass(frozen=True, slots=True)
class _Found:
    source: ModelSource
    weights: Weights | None = None
    plan: FetchPlan | None = None


class Catalogue:
    """Adding and removing is the operator's; reading is for everyone who may call the model."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        events: EventLog,
        keyring: Keyring,
        identity: Identity,
        *,
        platform: Callable[[Tx], Awaitable[ProjectId]],
        pricing: ModelPricing | None = None,
        observers: Sequence[ModelObserver] = (),
        engines: Collection[EngineKind] = (EngineKind.LLAMACPP, EngineKind.EXTERNAL),
        hub: HubHere | None = None,
        ids: IdFactory = new_id,
    ) -> None:
        """`platform`: id of the operator's own project, which owns what every project may call. `engines`: those that
        this cloud has."""
        self.db = db
        self.clock = clock
        self.events = events
        self.keyring = keyring
        self.identity = identity
        self.platform = platform
        self.pricing = pricing
        self.observers = list(observers)
        self.engines = frozenset(engines)
        self.hub = hub
        self.new_id = ids
        self.store = ModelStore()
        self._log = structlog.get_logger("skerry.artifacts")

    def observe(self, observer: ModelObserver) -> None:
        """For observers that themselves need the catalogue; wired once, at start."""
        self.observers.append(observer)

    async def add_model(self, principal: Principal, new: NewModel) -> Model:
        """Check it and put it in the catalogue; its shared endpoint is there when this returns.

        Raises BadModelName, ModelNameTaken, BadSource, BadWeights, BadContext, EngineUnsupported,
        OperatorOnly, HubUnreachable, HubForbids, and whatever an observer refuses it with.
        """
        rules.check_name(new.name)
        rules.check_source(new.source, operator=principal.operator)
        found = await self._examine(new)
        source, keys = rules.with_keys(found.source, new)
        facts = found.weights.facts if found.weights else ModelFacts()
        engine = rules.choose_engine(
            new.engine, found.weights.engine if found.weights else EngineKind.EXTERNAL, self.engines
        )
        context = rules.context_length(new.context_length, facts, source.kind)
        plan = found.plan
        license = new.license or (found.weights.license if found.weights else None)
        id = ModelId(self.new_id("model"))
        if plan is not None and self.hub is not None:
            facts = replace(facts, file=weights_path(self.hub.folder / id, plan.files))
        async with self.db.transaction() as tx:
            model = Model(
                id=id,
                project=await self.platform(tx),
                name=new.name,
                engine=engine,
                source=source,
                context_length=context,
                license=license,
                facts=facts,
                shared=True,
                builtin=False,
                created_at=self.clock.now(),
                fetch=Fetch(FetchState.DOWNLOADING, plan.revision, total=plan.total) if plan is not None else None,
            )
            await self._insert(tx, model, keys, new.prices, plan)
            await self.identity.audit(tx, principal, "model.create", model.id, detail=model.described())
        return model

    async def ensure_default_model(self, default: DefaultModel | None) -> Model | None:
        """Add a model of the first start. None where there is none, or one was added before, even if removed since.

        `default` is what `default_models()` found before privileges were dropped.
        """
        if default is None:
            return None
        async with self.db.transaction() as tx:
            if await self.store.had_builtin(tx, default.name) or await self.store.find(tx, None, default.name):
                return None
            model = Model(
                id=ModelId(self.new_id("model")),
                project=await self.platform(tx),
                name=default.name,
                engine=EngineKind.LLAMACPP,
                source=ModelSource(SourceKind.PATH, str(default.path)),
                context_length=default.context_length,
                license=default.license,
                facts=default.weights.facts,
                shared=True,
                builtin=True,
                created_at=self.clock.now(),
            )
            try:
                await self._insert(tx, model, (), ModelPrices())
            except ModelNameTaken:
                # Another process is adding it at this moment.
                return None
        return model

    async def remove_model(self, principal: Principal, ref: str) -> Model:
        """Stop serving it at once; its name is free again. Usage and invoices keep it. Raises UnknownModel."""
        async with self.db.transaction() as tx:
            model = await self._require(tx, None if principal.operator else principal.project_id, ref)
            rules.check_source(model.source, operator=principal.operator)
            now = self.clock.now()
            if not await self.store.remove(tx, model.project, model.id, now):
                return model
            removed = replace(model, removed_at=now)
            for observer in self.observers:
                await observer.model_removed(tx, removed)
            await self._tell(tx, removed, "removed")
            await notify(tx, WORK, FETCH)
            await self.identity.audit(tx, principal, "model.remove", model.id, detail=model.described())
        return removed

    async def list_models(self, principal: Principal, page: PageRequest) -> Page[Model]:
        async with self.db.reading() as tx:
            return await self.store.page(tx, _view(principal), page)

    async def get_model(self, principal: Principal, ref: str) -> Model:
        """By name or id. Raises UnknownModel."""
        async with self.db.reading() as tx:
            return await self._require(tx, _view(principal), ref)

    async def model_events(self, principal: Principal, ref: str, page: PageRequest) -> Page[Event]:
        """Raises UnknownModel."""
        async with self.db.reading() as tx:
            model = await self._require(tx, _view(principal), ref)
            return await self.events.list(tx, model.project, model.id, page)

    # For other domains, in their own transaction

    async def by_ids(self, tx: Tx, ids: set[ModelId]) -> dict[ModelId, Model]:
        return await self.store.by_ids(tx, ids)

    async def upstream_keys(self, tx: Tx, ids: set[ModelId]) -> dict[ModelId, tuple[str | None, ...]]:
        """The keys of upstreams, decrypted, in the order of `source.servers`; "" where one has none. They go to the
        gateway and nowhere else.

        None: it cannot be decrypted any more; it must not take the others with it.
        """
        sealed = await self.store.sealed_keys(tx, ids)
        return {id: tuple(self._opened(id, key) for key in keys) for id, keys in sealed.items()}

    def _opened(self, id: ModelId, sealed: str | None) -> str | None:
        try:
            return self.keyring.decrypt(sealed, _KEY_PURPOSE) if sealed else ""
        except Undecryptable as error:
            self._log.error("upstream_key_lost", model=id, why=str(error))
            return None

    async def _examine(self, new: NewModel) -> "_Found":
        """The source in its normal form, what its weights say, and what is to be downloaded."""
        source = new.source
        if source.kind is SourceKind.UPSTREAM:
            if source.upstreams:
                upstreams = rules.check_upstreams(source.upstreams)
                return _Found(replace(source, location=upstreams[0].url, upstreams=upstreams))
            return _Found(replace(source, location=rules.normal_upstream(source.location)))
        if source.kind is SourceKind.HUB:
            return await self._ask_hub(new)
        try:
            return _Found(source, await asyncio.to_thread(inspect, source.location))
        except SkerryError as error:
            if isinstance(error, BadSource) or not error.errors:
                error.errors = (FieldError("source.path", error.code, error.detail),)
            raise

    async def _ask_hub(self, new: NewModel) -> "_Found":
        """One question to the hub, so that what cannot be had is known at once."""
        if self.hub is None:
            raise HubOff("this cloud takes no models from a hub", suggestion="Add it with `source.path`.")
        ref = HubRef.parse(new.source.location)
        listing = await asyncio.to_thread(self.hub.hub.listing, ref)
        engine, files = choose(listing, ref, new.engine)
        weights = [file for file in files if file.name.endswith((".gguf", ".safetensors"))]
        gguf = weights[0].name.endswith(".gguf")
        facts = ModelFacts(
            format=(WeightsFormat.GGUF if gguf else WeightsFormat.SAFETENSORS).value,
            file_bytes=sum(file.size for file in weights),
        )
        plan = FetchPlan(ref.id, listing.commit, files, new.context_length)
        return _Found(new.source, Weights(engine, facts, listing.license), plan)

    async def _insert(
        self, tx: Tx, model: Model, keys: Sequence[str | None], prices: ModelPrices, plan: FetchPlan | None = None
    ) -> None:
        sealed = [None if key is None else self.keyring.encrypt(key, _KEY_PURPOSE) for key in keys]
        if not await self.store.insert(tx, model, sealed, plan):
            words = f"there is a model {model.name!r} already"
            raise ModelNameTaken(
                words,
                suggestion="Remove it first, or choose another name.",
                errors=[FieldError("name", "model_name_taken", words)],
            )
        if prices.given() and self.pricing is not None:
            await self.pricing.set_model_price(tx, model.name, prices.given())
        for observer in self.observers:
            await observer.model_added(tx, model)
        await self._tell(tx, model, "created")
        if plan is not None:
            await notify(tx, WORK, FETCH)

    async def _tell(self, tx: Tx, model: Model, verb: str) -> None:
        await self.events.record(
            tx,
            project=model.project,
            resource=model.id,
            resource_kind="model",
            type=f"model.{verb}",
            data=model.described(),
        )
        await notify(tx, ROUTES)

    async def _require(self, tx: Tx, project: ProjectId | None, ref: str) -> Model:
        model = await self.store.find(tx, project, ref)
        if model is None:
            raise UnknownModel(f"there is no model {ref[:200]!r}", suggestion="GET /api/v1/models lists them.")
        return model


def _view(principal: Principal) -> ProjectId | None:
    return None if principal.operator else principal.project_id
