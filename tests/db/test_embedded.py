"""The embedded server, each test on what may happen to it. One server is shared: every test leaves it running."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import psutil
import psycopg
import pytest

from skerry.db import embedded, osuser, pgbinaries
from skerry.db.embedded import DataFolderError, EmbeddedPostgres, EmbeddedPostgresError
from tests.waiting import eventually_sync

ROOT = os.geteuid() == 0


def server_in(folder: Path, **options) -> EmbeddedPostgres:
    options = {"settings": {"shared_buffers": "16MB"}, "durable": False, **options}
    return EmbeddedPostgres(folder / "data", folder / "run", log=folder / "postgres.log", **options)


@pytest.fixture
def folder(short_tmp):
    path = Path(tempfile.mkdtemp(dir=short_tmp))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def server(short_tmp):
    folder = Path(tempfile.mkdtemp(dir=short_tmp))
    folder.chmod(0o755)
    server = server_in(folder)
    server.start()
    yield server
    server.stop()
    assert server.poll() == 0


def query(server, statement, **where):
    with psycopg.connect(server.url(**where), autocommit=True) as connection:
        return connection.execute(statement).fetchone()


def test_the_application_owns_its_database_and_is_no_superuser(server):
    assert query(server, "SELECT current_user, current_database()") == ("skerry", "skerry")
    assert query(server, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == (False,)
    with psycopg.connect(server.url()) as connection:
        connection.execute("CREATE TABLE owned (n int)")
        connection.execute("CREATE EXTENSION btree_gist")
        connection.rollback()


def test_it_listens_on_its_socket_only_and_counts_in_utc(server):
    assert query(server, "SHOW listen_addresses") == ("",)
    assert query(server, "SHOW timezone") == ("UTC",)
    assert not [
        c for c in psutil.Process(server.pid).net_connections() if c.status == psutil.CONN_LISTEN and c.laddr.port
    ]


@pytest.mark.skipif(not ROOT, reason="only root can be another user")
def test_root_does_not_run_it_and_others_are_kept_out(server):
    process = psutil.Process(server.pid)
    assert process.username() == embedded.USER
    assert server.data.stat().st_mode & 0o777 == 0o700
    assert server.sockets.stat().st_mode & 0o777 == 0o750
    group = osuser.ensure_system_group(embedded.GROUP)
    assert server.sockets.stat().st_gid == group

    def connect(role, *groups):
        psql = pgbinaries._wheel_root() / "bin" / "psql"
        command = [psql, "-h", server.sockets, "-U", role, "-d", "skerry" if role == "skerry" else "postgres", "-c", ""]
        done = subprocess.run(
            command, cwd="/", user=65534, group=65534, extra_groups=groups, capture_output=True, text=True
        )
        return done.returncode == 0, done.stderr

    assert connect("skerry", group) == (True, "")
    assert "Permission denied" in connect("skerry")[1]
    assert "Peer authentication failed" in connect("postgres", group)[1]


def test_kill_9_loses_nothing_that_was_committed(server):
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE survivors AS SELECT generate_series(1, 1000) AS n")
    # A statement that is busy while the server dies: its process lives on for a moment and holds the memory.
    busy = psycopg.connect(server.url())

    def wait_in_vain():
        with pytest.raises(psycopg.OperationalError):
            busy.execute("SELECT pg_sleep(60)")

    thread = threading.Thread(target=wait_in_vain)
    thread.start()
    eventually_sync(lambda: query(server, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == (1,))
    os.kill(server.pid, signal.SIGKILL)
    server.restart()
    assert query(server, "SELECT count(*) FROM survivors") == (1000,)
    thread.join(10)
    assert not thread.is_alive()
    busy.close()


def test_a_server_that_was_killed_while_it_starts_again_comes_back(server):
    for _ in range(2):
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        server.spawn()
    os.kill(server.pid, signal.SIGKILL)
    server.restart()
    assert query(server, "SELECT 1") == (1,)


def test_stop_and_start(server):
    server.stop()
    assert server.poll() == 0
    server.start()
    assert query(server, "SELECT 1") == (1,)
    with pytest.raises(RuntimeError, match="running already"):
        server.start()


def test_a_folder_in_use_is_refused(server):
    second = EmbeddedPostgres(server.data, server.sockets, log=server.log)
    with pytest.raises(DataFolderError, match=f"in use by another PostgreSQL .process {server.pid}"):
        second.start()
    assert query(server, "SELECT 1") == (1,)


def test_a_lock_file_of_a_dead_server_is_no_obstacle(server):
    server.stop()
    lock = server.data / "postmaster.pid"
    for pid in (2**22 - 1, os.getpid(), "garbage"):
        lock.write_text(f"{pid}\n{server.data}\n")
        if ROOT:
            os.chown(lock, server.data.stat().st_uid, -1)
        server.start()
        server.stop()
    server.start()


def test_a_folder_of_another_version_is_refused(server):
    server.stop()
    version = server.data / "PG_VERSION"
    ours = version.read_text()
    version.write_text("15\n")
    try:
        with pytest.raises(DataFolderError, match=r"is of PostgreSQL 15, this is PostgreSQL \d\d"):
            server.start()
    finally:
        version.write_text(ours)
    server.start()


def test_a_folder_with_other_things_in_it_is_refused(folder):
    (folder / "data").mkdir()
    (folder / "data" / "letters.txt").write_text("mine")
    with pytest.raises(DataFolderError, match="not empty and holds no database"):
        server_in(folder).start()
    assert (folder / "data" / "letters.txt").read_text() == "mine"


def test_root_writes_through_no_link_in_the_folder(server, folder):
    server.stop()
    (folder / "precious").write_text("precious")
    for name in ("pg_hba.conf", "pg_hba.conf.new"):
        (server.data / name).unlink(missing_ok=True)
        (server.data / name).symlink_to(folder / "precious")
    server.start()
    assert (folder / "precious").read_text() == "precious"
    assert not (server.data / "pg_hba.conf").is_symlink()


def test_a_socket_path_that_is_too_long_is_refused_at_once(folder):
    with pytest.raises(EmbeddedPostgresError, match="longer than 100 bytes"):
        EmbeddedPostgres(folder / "data", folder / ("x" * 100), log=folder / "log")


def test_settings_that_do_not_work_are_one_clear_line(server):
    broken = EmbeddedPostgres(server.data, server.sockets, log=server.log, settings={"shared_buffers": "plenty"})
    server.stop()
    try:
        with pytest.raises(EmbeddedPostgresError, match="shared_buffers"):
            broken.start()
    finally:
        server.start()


def test_it_must_be_started_from_the_main_thread(folder):
    errors = []

    def start():
        with pytest.raises(RuntimeError, match="main thread") as caught:
            server_in(folder).start()
        errors.append(caught.value)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert errors


def test_it_does_not_outlive_its_parent(server):
    """And a new parent can start it again at once."""
    server.stop()
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from skerry.db.embedded import EmbeddedPostgres
        server = EmbeddedPostgres(Path({str(server.data)!r}), Path({str(server.sockets)!r}),
                                  log=Path({str(server.log)!r}), durable=False)
        server.start()
        print(server.pid, flush=True)
        sys.stdin.read()
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout and parent.stdin
    orphan = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    server.start()
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    assert query(server, "SELECT 1") == (1,)


@pytest.mark.skipif(not ROOT, reason="another user's reach matters to root only")
def test_programs_in_a_closed_folder_are_copied_once(folder, monkeypatch):
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "pginstall").symlink_to(pgbinaries._wheel_root())
    monkeypatch.setattr(pgbinaries, "_wheel_root", lambda: closed / "pginstall")
    user = osuser.ensure_system_user(embedded.USER, embedded.GROUP)
    with pytest.raises(EmbeddedPostgresError, match="cannot reach PostgreSQL's programs"):
        pgbinaries.usable_binaries(user, None)
    with pytest.raises(EmbeddedPostgresError, match="a folder above it is closed"):
        pgbinaries.usable_binaries(user, closed / "copies")
    copy = pgbinaries.usable_binaries(user, folder / "copies")
    inode = copy.program("postgres").stat().st_ino
    assert copy.root.parent == folder / "copies"
    assert pgbinaries.usable_binaries(user, folder / "copies").program("postgres").stat().st_ino == inode
    assert re.fullmatch(r"\d\d", copy.major_version())
    assert [path.name for path in (folder / "copies").iterdir()] == [copy.root.name]


@pytest.mark.skipif(not ROOT, reason="another user's reach matters to root only")
def test_data_in_a_closed_folder_is_refused(folder):
    folder.chmod(0o700)
    with pytest.raises(DataFolderError, match="a folder above it is closed"):
        server_in(folder).start()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_log_is_turned_over(server, monkeypatch):
    monkeypatch.setattr(embedded, "_LOG_MAX_BYTES", 1)
    before = server.log.read_bytes()
    assert server.poll() is None
    assert server.log.stat().st_size == 0
    assert server.log.with_name("postgres.log.1").read_bytes() == before
    with pytest.raises(psycopg.Error):
        query(server, "SELECT * FROM nowhere")
    eventually_sync(lambda: b"nowhere" in server.log.read_bytes())
    assert b"\0" not in server.log.read_bytes()
