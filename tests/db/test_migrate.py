import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import skerry
from skerry.db import migrate
from skerry.db.database import DatabaseUnavailable, libpq_url, sqlalchemy_url
from skerry.db.migrate import NewerDatabase, UnsupportedDatabase
from skerry.db.schema import metadata
from tests.db.expand_contract import takings

VERSIONS = Path(migrate.__file__).parent / "migrations" / "versions"
MIGRATIONS = sorted(VERSIONS.glob("0*.py"))


def query(url, statement):
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        return connection.execute(statement).fetchall()


def test_migrations_are_one_line_named_by_number():
    directory = ScriptDirectory(str(VERSIONS.parent))
    line = [script.revision for script in directory.walk_revisions()][::-1]
    assert line == [f"{number:04}" for number in range(1, len(line) + 1)]
    assert [path.name[:4] for path in MIGRATIONS] == line
    assert len(directory.get_heads()) == 1


def test_tables_are_what_the_migrations_make(database_url):
    for module in pkgutil.walk_packages(skerry.__path__, "skerry."):
        if module.name.endswith(".tables") or ".tables." in module.name:
            importlib.import_module(module.name)
    partitions = {name for (name,) in query(database_url, "SELECT relname FROM pg_class WHERE relispartition")}

    def counts(item, name, kind, reflected, compare_to):
        return name != "alembic_version" and not (kind == "table" and reflected and name in partitions)

    engine = create_engine(sqlalchemy_url(database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": counts, "compare_type": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert differences == []


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_a_migration_takes_nothing_away(path):
    assert takings(path.read_text()) == []


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("op.drop_column('t', 'c')", "drop_column"),
        ("op.drop_table('t')", "drop_table"),
        ("op.rename_table('t', 'u')", "rename_table"),
        ("op.alter_column('t', 'c', type_=Text)", "alter_column"),
        ("op.alter_column('t', 'c', new_column_name='d')", "alter_column"),
        ("op.alter_column('t', 'c', nullable=False)", "alter_column"),
        ("op.execute('ALTER TABLE t ALTER COLUMN c TYPE text')", "ALTER COLUMN c TYPE"),
        ("op.execute('alter table t drop column c')", "drop column"),
        ("op.execute('ALTER TABLE t RENAME TO u')", "RENAME"),
        ("op.execute('ALTER TABLE t ALTER c SET NOT NULL')", "SET NOT NULL"),
    ],
)
def test_what_takes_something_away_is_found(body, what):
    source = f"def upgrade():\n    {body}\n"
    assert takings(source) == [f"2: {what}"]
    assert takings(f"CONTRACT = True\n{source}") == []
    assert takings(f"CONTRACT = False\n{source}") == [f"3: {what}"]
    assert takings(f"def downgrade():\n    {body}\n") == []


@pytest.mark.parametrize(
    "body", ["op.add_column('t', c)", "op.alter_column('t', 'c', nullable=True)", "op.create_table('t')"]
)
def test_what_adds_something_is_allowed(body):
    assert takings(f"def upgrade():\n    {body}\n") == []


def test_three_processes_that_start_at_once_migrate_once(empty_database_url):
    program = "import sys; from skerry.db import migrate; migrate.upgrade(sys.argv[1])"
    racers = [
        subprocess.Popen([sys.executable, "-c", program, empty_database_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for racer in racers:
        _, errors = racer.communicate(timeout=60)
        assert racer.returncode == 0, errors
    assert migrate.is_current(empty_database_url)


def test_it_may_be_run_again_and_knows_when_it_has_to(empty_database_url):
    assert not migrate.is_current(empty_database_url)
    migrate.upgrade(empty_database_url)
    migrate.upgrade(empty_database_url)
    assert migrate.is_current(empty_database_url)


def test_a_database_of_a_newer_version_is_refused(database_url):
    query(database_url, "UPDATE alembic_version SET version_num = '9999' RETURNING 1")
    with pytest.raises(NewerDatabase, match=r"is from a newer version of Skerry .it has migration 9999"):
        migrate.upgrade(database_url)
    with pytest.raises(NewerDatabase):
        migrate.is_current(database_url)


def test_an_old_server_is_refused(empty_database_url, monkeypatch):
    monkeypatch.setattr(migrate, "OLDEST_SERVER", 990_000)
    with pytest.raises(UnsupportedDatabase, match=r"is PostgreSQL \d\d; Skerry needs"):
        migrate.upgrade(empty_database_url)


def test_a_server_that_is_away_is_unavailable(tmp_path):
    with pytest.raises(DatabaseUnavailable):
        migrate.upgrade(f"postgresql://skerry@/skerry?host={tmp_path}")


def test_a_migration_that_fails_leaves_those_before_it_and_no_lock(empty_database_url, tmp_path):
    bad = tmp_path / "versions"
    bad.mkdir()
    head = "from alembic import op\nrevision = {!r}\ndown_revision = {!r}\ndef upgrade():\n    op.execute({!r})\n"
    (bad / "0001_good.py").write_text(head.format("0001", None, "CREATE TABLE good (n int)"))
    (bad / "0002_bad.py").write_text(head.format("0002", "0001", "CREATE TABLE bad (n int); SELECT 1 / 0"))
    with pytest.raises(Exception, match="division by zero"):
        migrate.upgrade(empty_database_url, versions=bad)
    assert query(empty_database_url, "SELECT version_num, to_regclass('bad') FROM alembic_version") == [("0001", None)]
    (bad / "0002_bad.py").write_text(head.format("0002", "0001", "CREATE TABLE bad (n int)"))
    migrate.upgrade(empty_database_url, versions=bad)
    assert query(empty_database_url, "SELECT version_num FROM alembic_version") == [("0002",)]
