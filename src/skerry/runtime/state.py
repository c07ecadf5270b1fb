"""One way to change a status: checked against the table of its machine, compare-and-set, with its event (I7)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Table, update

from skerry.db.database import Tx
from skerry.kernel.ids import ProjectId
from skerry.kernel.states import StateMachine
from skerry.runtime.events import EventLog

S = TypeVar("S", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is in the state it is in: a code to act on and a sentence to read (I8)."""

    code: str
    message: str = ""

    def __post_init__(self) -> None:
        if not self.code:
            raise ValueError("a reason needs a code")

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message}


async def transition(
    tx: Tx,
    events: EventLog,
    machine: StateMachine[S],
    table: Table,
    *,
    id: str,
    project: ProjectId,
    before: S,
    after: S,
    reason: Reason,
    values: Mapping[str, Any] | None = None,
    kind: str | None = None,
) -> bool:
    """Move one row from status `before` to `after`, together with `values`. False: it was no longer in `before`.

    `status_reason` (JSONB) and `updated_at` are set too where the table has them. The event is `KIND.AFTER`; `kind` is
    the table's name without its plural s unless given. Raises IllegalTransition for a step the machine does not have.
    """
    name = kind or table.name.removesuffix("s")
    machine.require(before, after, f"{name} {id}")
    changes: dict[str, Any] = {"status": after.value}
    if "status_reason" in table.c:
        changes["status_reason"] = reason.to_json()
    if "updated_at" in table.c:
        changes["updated_at"] = events.clock.now()
    changed = await tx.execute(
        update(table)
        .where(table.c.id == id, table.c.project == project, table.c.status == before.value)
        .values({**changes, **(values or {})})
    )
    if changed.rowcount != 1:
        return False
    await events.record(
        tx,
        project=project,
        resource=id,
        resource_kind=name,
        type=f"{name}.{after.value}",
        data={"before": before.value, "after": after.value, "reason": reason.to_json()},
    )
    return True
