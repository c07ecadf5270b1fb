"""SQL of the catalogue."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, literal_column, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert

from skerry.artifacts.hub.store import FetchPlan, fetch_of, stored
from skerry.artifacts.model import EngineKind, Model, ModelFacts, ModelSource, SourceKind, Upstream
from skerry.artifacts.tables import models
from skerry.db.database import Tx
from skerry.kernel.ids import ModelId, ProjectId
from skerry.kernel.paging import Page, PageRequest

_FACTS = frozenset(field.name for field in fields(ModelFacts))


class ModelStore:
    """`project` says who looks: a project sees the shared models and its own, None (the operator) sees all."""

    async def insert(
        self, tx: Tx, model: Model, sealed_keys: Sequence[str | None], plan: FetchPlan | None = None
    ) -> bool:
        """False, and nothing written, where the name is taken. `sealed_keys`: encrypted, one for each upstream."""
        keys = list(sealed_keys) or [None]
        values = {
            "id": model.id,
            "project": model.project,
            "name": model.name,
            "engine": model.engine.value,
            "source_kind": model.source.kind.value,
            "location": model.source.location,
            "upstream_model": model.source.upstream_model,
            "upstream_key": keys[0],
            "upstreams": [
                {"url": upstream.url, "weight": upstream.weight, "key": key}
                for upstream, key in zip(model.source.upstreams, keys, strict=False)
            ],
            "context_length": model.context_length,
            "license": model.license,
            "facts": stored(model.facts),
            "shared": model.shared,
            "builtin": model.builtin,
            "created_at": model.created_at,
            **(plan.begun() if plan is not None else {}),
        }
        written = (
            insert(models)
            .values(values)
            .on_conflict_do_nothing(index_elements=[models.c.name], index_where=models.c.removed_at.is_(None))
            .returning(models.c.id)
        )
        return (await tx.execute(written)).first() is not None

    async def find(self, tx: Tx, project: ProjectId | None, ref: str) -> Model | None:
        """By id (removed ones too) or by name."""
        named = (models.c.name == ref) & models.c.removed_at.is_(None)
        query = select(models).where(or_(models.c.id == ref, named), _visible(project))
        row = (await tx.execute(query.order_by(models.c.id != ref).limit(1))).first()
        return _model(row) if row is not None else None

    async def page(self, tx: Tx, project: ProjectId | None, request: PageRequest) -> Page[Model]:
        query = select(models).where(models.c.removed_at.is_(None), _visible(project))
        if request.after is not None:
            query = query.where(models.c.id > request.after[0])
        rows = await tx.execute(query.order_by(models.c.id).limit(request.limit + 1))
        return Page.cut([_model(row) for row in rows], request, lambda model: (model.id,))

    async def by_ids(self, tx: Tx, ids: set[ModelId]) -> dict[ModelId, Model]:
        rows = await tx.execute(select(models).where(models.c.id.in_(ids)))
        return {ModelId(row.id): _model(row) for row in rows}

    async def sealed_keys(self, tx: Tx, ids: set[ModelId]) -> dict[ModelId, list[str | None]]:
        """The encrypted keys of models with upstreams, one for each upstream; None where it has none."""
        query = select(models.c.id, models.c.upstream_key, models.c.upstreams).where(
            models.c.id.in_(ids), models.c.source_kind == SourceKind.UPSTREAM.value
        )
        return {
            ModelId(row.id): [one["key"] for one in row.upstreams] or [row.upstream_key]
            for row in await tx.execute(query)
        }

    async def remove(self, tx: Tx, project: ProjectId, id: ModelId, at: datetime) -> bool:
        """False where it was removed before. The keys of upstreams go for good."""
        done = await tx.execute(
            update(models)
            .where(models.c.id == id, models.c.project == project, models.c.removed_at.is_(None))
            .values(removed_at=at, upstream_key=None, upstreams=_KEYLESS)
        )
        return done.rowcount == 1

    async def had_builtin(self, tx: Tx, name: str) -> bool:
        """Whether a first start has ever added its model of that name, even if it was removed since."""
        query = select(models.c.id).where(models.c.builtin, models.c.name == name).limit(1)
        return (await tx.execute(query)).first() is not None


_KEYLESS: Final[ColumnElement[Any]] = literal_column(
    "(SELECT coalesce(jsonb_agg(one || '{\"key\": null}'), '[]') FROM jsonb_array_elements(upstreams) one)"
)


def _visible(project: ProjectId | None) -> ColumnElement[bool]:
    return true() if project is None else or_(models.c.shared, models.c.project == project)


def _model(row: Row[Any]) -> Model:
    return Model(
        id=ModelId(row.id),
        project=ProjectId(row.project),
        name=row.name,
        engine=EngineKind(row.engine),
        source=ModelSource(
            SourceKind(row.source_kind),
            row.location,
            row.upstream_model,
            has_key=row.upstream_key is not None,
            upstreams=tuple(Upstream(one["url"], one["weight"], bool(one["key"])) for one in row.upstreams),
        ),
        context_length=row.context_length,
        license=row.license,
        facts=ModelFacts(**{name: value for name, value in row.facts.items() if name in _FACTS}),
        shared=row.shared,
        builtin=row.builtin,
        created_at=row.created_at,
        removed_at=row.removed_at,
        fetch=fetch_of(row.fetch_state, row.download),
    )
