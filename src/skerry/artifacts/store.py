"""SQL of the catalogue."""

from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert

from skerry.artifacts.model import EngineKind, Model, ModelFacts, ModelSource, SourceKind
from skerry.artifacts.tables import models
from skerry.db.database import Tx
from skerry.kernel.ids import ModelId, ProjectId
from skerry.kernel.paging import Page, PageRequest

_FACTS = frozenset(field.name for field in fields(ModelFacts))


class ModelStore:
    """`project` says who looks: a project sees the shared models and its own, None (the operator) sees all."""

    async def insert(self, tx: Tx, model: Model, sealed_key: str | None) -> bool:
        """False, and nothing written, where the name is taken."""
        values = {
            "id": model.id,
            "project": model.project,
            "name": model.name,
            "engine": model.engine.value,
            "source_kind": model.source.kind.value,
            "location": model.source.location,
            "upstream_model": model.source.upstream_model,
            "upstream_key": sealed_key,
            "context_length": model.context_length,
            "license": model.license,
            "facts": {name: value for name, value in asdict(model.facts).items() if value is not None},
            "shared": model.shared,
            "builtin": model.builtin,
            "created_at": model.created_at,
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

    async def sealed_keys(self, tx: Tx, ids: set[ModelId]) -> dict[ModelId, str]:
        """The encrypted keys of upstreams, where there are any."""
        query = select(models.c.id, models.c.upstream_key).where(
            models.c.id.in_(ids), models.c.upstream_key.is_not(None)
        )
        return {ModelId(row.id): row.upstream_key for row in await tx.execute(query)}

    async def remove(self, tx: Tx, project: ProjectId, id: ModelId, at: datetime) -> bool:
        """False where it was removed before. The upstream's key goes for good."""
        done = await tx.execute(
            update(models)
            .where(models.c.id == id, models.c.project == project, models.c.removed_at.is_(None))
            .values(removed_at=at, upstream_key=None)
        )
        return done.rowcount == 1

    async def had_builtin(self, tx: Tx) -> bool:
        """Whether a first start has ever added its model, even if it was removed since."""
        return (await tx.execute(select(models.c.id).where(models.c.builtin).limit(1))).first() is not None


def _visible(project: ProjectId | None) -> ColumnElement[bool]:
    return true() if project is None else or_(models.c.shared, models.c.project == project)


def _model(row: Row[Any]) -> Model:
    return Model(
        id=ModelId(row.id),
        project=ProjectId(row.project),
        name=row.name,
        engine=EngineKind(row.engine),
        source=ModelSource(
            SourceKind(row.source_kind), row.location, row.upstream_model, has_key=row.upstream_key is not None
        ),
        context_length=row.context_length,
        license=row.license,
        facts=ModelFacts(**{name: value for name, value in row.facts.items() if name in _FACTS}),
        shared=row.shared,
        builtin=row.builtin,
        created_at=row.created_at,
        removed_at=row.removed_at,
    )
