"""Which Unix user each project is, on all nodes alike: shared folders know nothing but the number."""

from typing import Final

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert

from skerry.compute.nodes.tables import project_users as users
from skerry.compute.task.order import ProjectUser
from skerry.db.database import Tx
from skerry.kernel.errors import Unavailable
from skerry.kernel.ids import ProjectId

MOST: Final = 65_536
_LOCK: Final = 0x5E_55_E2_50
"""Key of the advisory lock under which numbers are given."""


class ProjectUsers:
    """`first`: the uid of project 1, and so on upwards."""

    def __init__(self, first: int) -> None:
        self._first = first

    async def of(self, tx: Tx, project: ProjectId) -> ProjectUser:
        """The same for ever; given at the first call. Raises Unavailable where there is none left."""
        number = await self._number(tx, project)
        if number is None:
            await tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            highest = (await tx.execute(select(func.coalesce(func.max(users.c.number), 0)))).scalar_one()
            if highest >= MOST:
                words = f"All {MOST} Unix users of projects are given away."
                raise Unavailable(words, suggestion="Tell your operator.", code="no_project_user")
            row = insert(users).values(project=project, number=highest + 1)
            await tx.execute(row.on_conflict_do_nothing(index_elements=["project"]))
            number = await self._number(tx, project)
        assert number is not None, "it was written just now"
        return ProjectUser(f"skerry-p{number}", self._first + number)

    async def _number(self, tx: Tx, project: ProjectId) -> int | None:
        found: int | None = (
            await tx.execute(select(users.c.number).where(users.c.project == project))
        ).scalar_one_or_none()
        return found
