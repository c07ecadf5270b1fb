"""Tables of what nodes are told."""

from typing import Final

from sqlalchemy import Column, Integer, Table, Text

from skerry.db.schema import metadata

project_users: Final = Table(
    "project_users",
    metadata,
    Column("project", Text, primary_key=True),
    # Counted from 1, given once and never again: files on nodes carry it for longer than a project may live.
    Column("number", Integer, nullable=False, unique=True),
)
