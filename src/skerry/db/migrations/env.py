"""Alembic's entry: runs each migration in a transaction of its own, on the connection that `db/migrate.py` hands in."""

from alembic import context

from skerry.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,  # for its naming convention
    transaction_per_migration=True,
)
context.run_migrations()
