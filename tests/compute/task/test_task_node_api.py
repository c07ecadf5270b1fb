"""The wrapper and the control API: sources come, tokens are renewed, reports get out, checkpoints are exchanged."""

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.compute.task import calling, token
from skerry.compute.task.calling import Api, Away, Refused
from skerry.compute.task.checkpoints import KEPT, Courier
from skerry.compute.task.order import MountOrder, SourceOrder
from skerry.compute.task.relay import rewritten
from tests.artifacts.test_archives import special, tar, zipped
from tests.compute.task.api_double import ApiDouble, serving
from tests.compute.task.conftest import FIRST_UID, ROOT, SANDBOX, Make

pytestmark = pytest.mark.skipif(not SANDBOX, reason="bubblewrap does not work on this machine")


@pytest.fixture
def api() -> Iterator[ApiDouble]:
    with serving() as api:
        yield api


def source(api: ApiDouble, *members: object) -> SourceOrder:
    api.source = tar(*members).getvalue()  # type: ignore[arg-type]
    return SourceOrder("file-x", "code.tar.gz", len(api.source), hashlib.sha256(api.source).hexdigest())


def client(api: ApiDouble) -> Api:
    return Api(api.url, lambda: api.tokens[-1])


# Sources


def test_the_source_is_the_working_folder(make: Make, api: ApiDouble) -> None:
    order = source(api, ("train.py", b"print('trained')"), ("lib/x", b"1"))
    task = make("sh", "-c", "pwd; python train.py; ls lib; stat -c %u train.py", source=order, api_url=api.url)
    assert task.run() == 0, task.log
    uid = FIRST_UID + 1 if ROOT else os.getuid()
    assert task.log.split() == [str(task.work / "source"), "trained", "x", str(uid)]


def test_a_download_goes_on_where_it_broke_off(make: Make, api: ApiDouble) -> None:
    order = source(api, ("data", os.urandom(50_000)))
    api.break_after, api.away = [20_000, 10_000], 1
    task = make("sha256sum", "data", source=order, api_url=api.url)
    assert task.run() == 0, task.log
    assert [way for method, name, way in api.calls if name == "source"] == ["0", "0", "bytes=20000-", "bytes=30000-"]


def test_a_source_is_downloaded_once_to_a_node(make: Make, api: ApiDouble) -> None:
    order = source(api, ("x", b"1"))
    tasks = [make("true", source=order, api_url=api.url).start() for _ in range(3)]
    assert [task.wait() for task in tasks] == [0, 0, 0]
    assert len([name for _, name, _ in api.calls if name == "source"]) == 1


def test_other_bytes_than_those_uploaded_are_not_used(make: Make, api: ApiDouble) -> None:
    order = source(api, ("x", b"1"))
    api.source = bytes(len(api.source))
    task = make("echo", "ran", source=order, api_url=api.url)
    assert task.run() == -9, "our fault: the attempt is lost"
    assert "other bytes" in task.log and "ran" not in task.log


def test_a_zip_is_unpacked_where_python_is_closed_to_the_project_s_user(make: Make, api: ApiDouble) -> None:
    api.source = zipped("caf.py", data=b"print(5)").getvalue()
    order = SourceOrder("file-x", "c.zip", len(api.source), hashlib.sha256(api.source).hexdigest())
    task = make("python", "caf.py", source=order, api_url=api.url)
    assert task.run() == 0, task.log
    assert task.log == "5\n"


def test_a_dangerous_source_is_refused_on_the_node_too(make: Make, api: ApiDouble) -> None:
    order = source(api, "x", special("l", b"2", link="/etc/shadow"))
    task = make("echo", "ran", source=order, api_url=api.url)
    assert task.run() == 65
    assert "'l': it links to '/etc/shadow' (link_outside)" in task.log and "ran" not in task.log


def test_a_source_that_is_refused_is_said(make: Make, api: ApiDouble) -> None:
    order, api.tokens = source(api, "x"), []
    task = make("echo", "ran", source=order, api_url=api.url)
    assert task.run() == 65
    assert "bad_node_token" in task.log


# The way out


def test_the_task_reaches_the_node_api_without_a_network(make: Make, api: ApiDouble) -> None:
    program = """
import os, urllib.request as u
token = open(os.environ['SKERRY_FILES'] + '/node-token').read()
base = os.environ['SKERRY_API_URL']
head = {'authorization': 'Bearer ' + token, 'x-skerry-client-ip': '1.2.3.4'}
print(u.urlopen(u.Request(base + '/api/v1/node/training/reports', b'x' * 300000, head)).read()[-30:])
try: u.urlopen(base + '/api/v1/workloads')
except Exception as error: print(error.code)
"""
    task = make("python", "-c", program, api_url=api.url)
    assert task.run() == 0, task.log
    assert "training/reports" in task.log and task.log.strip().endswith("403")
    assert ("POST", "training/reports", "300000") in api.calls
    assert all("x-skerry-client-ip" not in head for head in api.heads)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /api/v1/workloads HTTP/1.1",
        b"GET /api/v1/node/../workloads HTTP/1.1",
        b"GET /api/v1/node/%2e%2e/workloads HTTP/1.1",
        b"GET /api/v1/node//x HTTP/1.1",
        b"GET /api/v1/nodes HTTP/1.1",
        b"GET http://elsewhere/api/v1/node/x HTTP/1.1",
        b"GET /api/v1/node/x HTTP/1.0",
        b"GET /api/v1/node/x",
        b"GET /api/v1/node/x HTTP/1.1\r\nA: b\r\n folded: c",
        b"GET /api/v1/node/x HTTP/1.1\r\nA: b\nHost: c",
    ],
)
def test_the_relay_passes_nothing_else(head: bytes) -> None:
    assert rewritten(head, "skerry") is None


def test_the_relay_says_whose_connection_it_is() -> None:
    head = b"POST /api/v1/node/x?a=1 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nX-Skerry-Client-Ip: 1\r\nA: b"
    assert rewritten(head, "c") == (b"POST /api/v1/node/x?a=1 HTTP/1.1\r\nhost: c\r\nconnection: close\r\nA: b\r\n\r\n")


def test_a_token_is_renewed_while_the_task_runs(make: Make, api: ApiDouble) -> None:
    script = "while grep -q snt_first $SKERRY_FILES/node-token; do sleep 0.1; done; cat $SKERRY_FILES/node-token"
    task = make("sh", "-c", f"{script}; stat -c ' %a %u' $SKERRY_FILES/node-token", api_url=api.url)
    assert task.run() == 0, task.log
    uid = FIRST_UID + 1 if ROOT else os.getuid()
    assert task.log.split() == ["snt_1", "600", str(uid)]


def test_a_token_is_not_written_through_a_link(tmp_path: Path, api: ApiDouble) -> None:
    files, elsewhere = tmp_path / "files", tmp_path / "elsewhere"
    files.mkdir()
    elsewhere.mkdir()
    (files / "node-token").write_text("snt_first")
    mine = token.Token(files, None)
    files.rename(tmp_path / "moved")
    files.symlink_to(elsewhere)
    mine.renew(client(api))
    assert mine.value == "snt_1" and not list(elsewhere.iterdir())
    assert (tmp_path / "moved/node-token").read_text() == "snt_1"


def test_a_renewal_that_fails_is_tried_again(tmp_path: Path, api: ApiDouble) -> None:
    (tmp_path / "node-token").write_text("snt_first")
    mine = token.Token(tmp_path, None)
    api.away = 1
    mine.renew(client(api))
    assert mine.value == "snt_first" and 0 < mine.due_in <= 15
    mine.renew(client(api))
    assert mine.value == "snt_1" and mine.due_in > 1000


def test_calls_go_over_a_unix_socket_however_long_its_path_is(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    fd = os.open(folder, os.O_PATH)
    listener.bind(f"/proc/self/fd/{fd}/s")
    os.close(fd)
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert Api(f"unix:{folder}/s", lambda: "t").call("GET", "x") == {}
    thread.join()
    listener.close()


@pytest.mark.parametrize(("status", "error"), [(404, Refused), (401, Refused), (503, Away), (429, Away)])
def test_what_is_refused_for_good_is_told_from_what_may_come(status: int, error: type[Exception]) -> None:
    class Answer:
        def __init__(self) -> None:
            self.status = status

        def read(self, most: int) -> bytes:
            return json.dumps({"code": "c", "detail": "d"}).encode()

    with pytest.raises(error, match="c: d"):
        calling._require_good(Answer(), "x")  # type: ignore[arg-type]


# Checkpoints


def checkpoint(folder: Path, step: int, rank: int, *, complete: bool) -> None:
    (folder / f"step_{step}").mkdir(parents=True, exist_ok=True)
    (folder / f"step_{step}/__{rank}_0.distcp").write_bytes(os.urandom(2_500_000 if rank == 0 else 10))
    if complete:
        (folder / f"step_{step}/.metadata").write_bytes(b"m")


def test_a_checkpoint_counts_once_all_nodes_have_sent_theirs(tmp_path: Path, api: ApiDouble) -> None:
    first, second = Courier(tmp_path / "0", client(api), 2, 0), Courier(tmp_path / "1", client(api), 2, 1)
    checkpoint(tmp_path / "1", 5, 1, complete=False)
    second.look()
    assert not api.artifacts, "nobody has said that it is written"
    checkpoint(tmp_path / "0", 5, 0, complete=True)
    first.look()
    assert first.complete(api.artifacts) == set()
    second.look()
    assert first.complete(api.artifacts) == {5}

    fresh = Courier(tmp_path / "2", client(api), 2, 0)
    fresh.bring()
    for name in ("__0_0.distcp", "__1_0.distcp", ".metadata"):
        where = tmp_path / ("1" if name.startswith("__1") else "0") / "step_5" / name
        assert (tmp_path / "2/step_5" / name).read_bytes() == where.read_bytes()


def test_a_node_that_has_a_newer_one_fetches_nothing(tmp_path: Path, api: ApiDouble) -> None:
    one = Courier(tmp_path, client(api), 1, 0)
    checkpoint(tmp_path, 5, 0, complete=True)
    one.look()
    checkpoint(tmp_path, 6, 0, complete=True)
    one.bring()
    assert not [call for call in api.calls if call[0] == "GET" and "step_" in call[1]]


def test_only_the_newest_complete_ones_stay(tmp_path: Path, api: ApiDouble) -> None:
    one = Courier(tmp_path, client(api), 1, 0)
    for step in range(1, 5):
        checkpoint(tmp_path, step, 1, complete=True)
        one.look()
    one.look()
    assert one.complete(api.artifacts) == set(range(5 - KEPT, 5))


def test_links_in_a_checkpoint_are_not_sent(tmp_path: Path, api: ApiDouble) -> None:
    checkpoint(tmp_path, 1, 1, complete=True)
    (tmp_path / "step_1/stolen").symlink_to("/etc/hostname")
    Courier(tmp_path, client(api), 1, 0).look()
    assert "step_1/.metadata" in api.artifacts and "step_1/stolen" not in api.artifacts


def test_a_checkpoint_made_at_the_end_is_sent_and_the_next_attempt_has_it(
    make: Make, api: ApiDouble, node: Path
) -> None:
    def mount(machine: str) -> MountOrder:
        return MountOrder("checkpoints", f"{node}/{machine}/proj", "job", "/checkpoints", exchanged=True)

    script = "trap 'mkdir /checkpoints/step_7; echo w > /checkpoints/step_7/.metadata; exit 0' TERM; echo up"
    first = make("sh", "-c", f"{script}; while :; do sleep 0.05; done", mounts=(mount("a"),), api_url=api.url).start()
    first.until_logged("up")
    os.killpg(first.process.pid, 15)
    assert first.wait() == 0, first.log
    again = make("cat", "/checkpoints/step_7/.metadata", mounts=(mount("b"),), api_url=api.url)
    assert again.run() == 0, again.log
    assert again.log.splitlines()[-1] == "w"
