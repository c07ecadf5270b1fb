"""What every driver does. `node` has no root folder and network of its own, so those cases are for the other two."""

import json
import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.compute.instances.host.machines import Keys, Machine
from tests.waiting import eventually_sync

DRIVERS = ("netns", "oci", "node")
ISOLATED = ("netns", "oci")
LIMITS = {"memory_bytes": 192 << 20, "cpus": 0.5, "processes": 48}
SCRIPT = "#!/bin/sh\necho started once\necho again >>$HOME/boots\nexit 3\n"
Make = Callable[..., Machine]


@pytest.fixture(scope="module", params=DRIVERS)
def up(request: pytest.FixtureRequest, node: Path, keys: Keys) -> Iterator[Machine]:
    """One instance for all cases that leave it as it was."""
    data = node / f"volume-{request.param}"
    data.mkdir()
    (data / "from-outside").write_text("seen")
    read_only = node / f"read-only-{request.param}"
    read_only.mkdir(mode=0o755)
    target = f"/srv/{node.name}"
    machine = Machine(
        node,
        keys,
        request.param,
        limits=LIMITS,
        start_script=SCRIPT,
        volumes=[
            {"path": str(data), "target": f"{target}-data"},
            {"path": str(read_only), "target": f"{target}-fixed", "read_only": True},
        ],
        options={"egress_allow": ["127.0.0.1/32"]},
    ).start()
    machine.target = target
    yield machine
    assert machine.stop() == 0
    assert not machine.leftovers()


def isolated(up: Machine) -> Machine:
    if up.driver == "node":
        pytest.skip("a whole node has no root folder, network or processes of its own")
    return up


def test_it_is_reached_with_the_users_key_and_the_reported_host_key(up: Machine) -> None:
    assert up.out("echo hello") == "hello"
    assert up.report.ssh.host_key == " ".join(up.keys.public("host").split()[:2])


def test_a_wrong_host_key_is_noticed(up: Machine) -> None:
    done = up.ssh("true", host_key=" ".join(up.keys.public("stranger").split()[:2]))
    assert done.code == 255 and "Host key verification failed" in done.err


def test_a_strangers_key_is_refused(up: Machine) -> None:
    done = up.ssh("true", key="stranger")
    assert done.code == 255 and "Permission denied (publickey)" in done.err


def test_passwords_are_refused(up: Machine) -> None:
    done = up.ssh("true", "-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password")
    assert done.code == 255 and "Permission denied (publickey)" in done.err


def test_the_start_script_runs_once_and_its_end_is_reported(up: Machine) -> None:
    eventually_sync(lambda: up.report.start_script == "failed")
    assert up.report.start_script_exit == 3 and "started once" in up.report.start_script_tail
    assert up.log.count("start: started once") == 1


def test_memory_beyond_the_limit_is_refused(up: Machine) -> None:
    assert up.out("python3 -c 'x = b\"x\" * (400 << 20); print(len(x))'; echo $?") == "137"


def test_processes_beyond_the_limit_are_refused(up: Machine) -> None:
    program = (
        "import os, signal, sys\npids = []\ntry:\n  for _ in range(200):\n"
        "    pid = os.fork()\n    if not pid: signal.pause()\n"
        "    pids.append(pid)\nexcept OSError as error: print('refused', error.errno)\n"
        "for pid in pids: os.kill(pid, 9)\nprint(len(pids) < 48)"
    )
    assert up.out(f"python3 -c {shlex.quote(program)}") == "refused 11\nTrue"


def test_a_busy_loop_gets_no_more_than_its_share(up: Machine) -> None:
    program = (
        "import time; w = time.monotonic(); c = time.process_time()\n"
        "while time.monotonic() - w < 1.0: pass\n"
        "print((time.process_time() - c) / (time.monotonic() - w))"
    )
    assert float(up.out(f"python3 -c {shlex.quote(program)}")) < 0.65


def test_volumes_are_there_and_read_only_ones_cannot_be_written(up: Machine) -> None:
    assert up.out(f"cat {up.target}-data/from-outside") == "seen"
    assert up.ssh(f"touch {up.target}-fixed/x").code != 0


def test_it_is_a_machine_of_its_own(up: Machine) -> None:
    isolated(up)
    assert up.out("hostname; cat /proc/1/cmdline | tr '\\0' ' '; echo; id -u").splitlines() == [
        "alpha", "/bin/sh /.skerry/init ", "0",
    ]  # fmt: skip
    assert up.out("ls /sys/class/net").split() == ["fabric0", "lo", "uplink0"]
    assert len([name for name in up.out("ls /proc").split() if name.isdigit()]) < 15


def test_nothing_it_writes_reaches_the_node(up: Machine) -> None:
    isolated(up)
    name = f"skerry-test-{up.id}"
    up.out(f"touch /usr/{name} /etc/{name} /tmp/{name} /{name}")
    assert not any(Path(folder, name).exists() for folder in ("/usr", "/etc", "/tmp", "/"))


def test_nothing_of_the_nodes_data_is_seen(up: Machine) -> None:
    isolated(up)
    assert up.ssh(f"ls {up.folder}").code != 0
    assert up.out("ls /home /root /var/lib /mnt /srv | grep -c . ").isdigit()
    shadow = up.out("cat /etc/shadow")
    assert "$" not in shadow and all(line.split(":")[1] == "*" for line in shadow.splitlines())


def test_devices_and_mounts_are_out_of_reach(up: Machine) -> None:
    isolated(up)
    names = set(up.out("ls /dev").split())
    assert names <= {
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero", "console",
    }  # fmt: skip
    for command in (
        "mknod /tmp/disk b 254 0", "mount -t tmpfs none /mnt", "umount /proc/sys", "echo 1 >/proc/sys/kernel/panic",
        "echo x >/sys/kernel/profiling", "ip link set fabric0 down", "hostname other",
        "nsenter --target 1 --mount true",
    ):  # fmt: skip
        assert up.ssh(command).code != 0, command


def test_the_internet_is_reached_by_the_proxy_alone_and_counted(up: Machine, web: int) -> None:
    isolated(up)
    fetch = "python3 -c 'import urllib.request as r; print(len(r.urlopen(\"http://127.0.0.1:%d/\").read()))'"
    assert up.ssh("env -u http_proxy -u HTTP_PROXY " + fetch % web).code != 0
    before = up.report.egress_bytes
    post = (
        'python3 -c \'import os, urllib.request as r; del os.environ["no_proxy"], os.environ["NO_PROXY"];'
        f' print(r.urlopen("http://127.0.0.1:{web}/", data=bytes(300_000)).read().decode())\''
    )
    assert up.out(post) == "got 300000"
    eventually_sync(lambda: up.report.egress_bytes > before + 300_000)


def test_addresses_that_are_not_public_are_refused_by_the_proxy(up: Machine) -> None:
    isolated(up)
    done = up.ssh("python3 -c 'import urllib.request as r; r.urlopen(\"http://169.254.169.254/latest\")'")
    assert "403" in done.err


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = f"got {len(self.rfile.read(int(self.headers['Content-Length'])))}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *words: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_home_outlives_a_stop_and_a_kill_and_nothing_else_does(driver: str, machine: Make, node: Path) -> None:
    home = node / f"home-{driver}"
    home.mkdir()
    one = machine(driver, home={"path": str(home), "bytes": 1 << 30}, start_script=SCRIPT).start()
    one.out("echo kept >~/file; touch /tmp/scratch; (setsid sleep 1000 >/dev/null 2>&1 &)")
    host_key, port = one.report.ssh.host_key, one.report.ssh.port
    assert one.stop() == 0
    assert not one.leftovers()
    one.start()
    assert one.out("cat ~/file; ls -A /tmp | grep -c scratch || true").split() == ["kept", "0"]
    assert (one.report.ssh.host_key, one.report.ssh.port) == (host_key, port)
    one.out("(setsid sleep 1001 >/dev/null 2>&1 &)")
    one.kill()
    one.start()
    assert one.out("cat ~/file") == "kept"
    assert one.out("pgrep -fc 'sleep 100[01]' || true").splitlines()[-1] in ("0", "1")  # pgrep's own shell
    eventually_sync(lambda: one.report.start_script == "failed")
    assert one.out("wc -l <~/boots") == "3"
    assert one.stop() == 0
    assert not one.leftovers()


@pytest.mark.parametrize("driver", ("netns",))
def test_members_of_a_partition_reach_each_other_and_nobody_else(driver: str, machine: Make) -> None:
    one, two = machine(driver), machine(driver, hostname="beta")
    other = machine(driver, hostname="gamma", partition="p-two")
    for each in (one, two, other):
        each.begin()
    for each in (one, two, other):
        eventually_sync(lambda each=each: each.report_path.exists() or each.ended, 60)
        assert not each.ended, each.log
    reach = "python3 -c 'import socket; print(socket.create_connection((\"{}\", 22), 1).recv(4))'"
    assert one.out(reach.format(two.report.address)) == "b'SSH-'"
    # The other partition has its own copy of the addresses: what answers there is a machine of one's own, or nothing.
    other.out("echo secret >/root/mark; python3 -m http.server 8000 --directory /root >/dev/null 2>&1 &")
    fetch = (
        "python3 -c 'import urllib.request as r; o = r.build_opener(r.ProxyHandler({{}}));"
        ' print(o.open("http://{}:8000/mark", timeout=1).read())\''
    )
    eventually_sync(lambda: "secret" in other.ssh(fetch.format("127.0.0.1")).out)
    for address in (other.report.address, "10.201.0.1", "169.254.0.9", "169.254.0.10"):
        assert "secret" not in one.ssh(fetch.format(address)).out
    for each in (one, two, other):
        assert each.stop() == 0
        assert not each.leftovers()


@pytest.mark.parametrize("driver", DRIVERS)
def test_users_are_told_and_work_gets_a_moment_before_the_end(driver: str, machine: Make, node: Path) -> None:
    home = node / f"home-told-{driver}"
    home.mkdir()
    one = machine(driver, home={"path": str(home), "bytes": 1 << 30}).start()
    one.out(
        "(setsid sh -c 'trap \"echo saved >~/checkpoint; exit\" TERM; touch ~/ready; while :; do sleep 0.1; done'"
        " >/dev/null 2>&1 &)"
    )
    eventually_sync(lambda: (home / "ready").exists())
    with subprocess.Popen(
        [*one.ssh_command("-tt"), "echo here; exec sleep 100"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as session:
        assert session.stdout is not None
        assert session.stdout.readline().strip() == "here"
        assert one.stop() == 0
        assert "is being stopped" in session.stdout.read()
    assert (home / "checkpoint").read_text() == "saved\n"
    assert not one.leftovers()


@pytest.mark.parametrize("driver", ("netns",))
def test_it_ends_by_itself_when_its_time_is_over(driver: str, machine: Make) -> None:
    one = machine(driver, expires_at=(datetime.now(UTC) + timedelta(seconds=0.1)).isoformat())
    one.begin()
    assert one.process is not None and one.process.wait(60) == 0
    assert "its time is over" in one.log and not one.leftovers()


@pytest.mark.parametrize("driver", ("oci",))
def test_it_ends_when_it_is_shut_down_from_inside(driver: str, machine: Make) -> None:
    one = machine(driver).start()
    one.ssh("kill -TERM 1")
    assert one.process is not None and one.process.wait(60) == 0
    assert not one.leftovers()


@pytest.mark.parametrize("driver", ISOLATED)
def test_a_stop_while_it_comes_up_leaves_nothing(driver: str, machine: Make) -> None:
    one = machine(driver)
    one.begin()
    eventually_sync(lambda: (one.state / "up" / one.id / "etc").exists() or one.ended)
    assert one.stop() == 0
    assert not one.leftovers()


@pytest.mark.parametrize("driver", ISOLATED)
def test_what_a_killed_one_left_is_removed_by_the_next_on_the_node(driver: str, machine: Make) -> None:
    dead = machine(driver, partition="p-dead").start()
    # Its own children go by themselves: the kernel sees to it.
    dead.kill()
    eventually_sync(lambda: "processes" not in dead.leftovers())
    next_one = machine(driver).start()
    assert not dead.leftovers()
    assert dead.id in next_one.log
    assert next_one.out("echo fine") == "fine"


@pytest.mark.parametrize("driver", ("oci",))
def test_jupyter_answers_on_the_instances_own_loopback_by_ssh_forward(driver: str, machine: Make, node: Path) -> None:
    tools = node / f"tools-{driver}"
    tools.mkdir()
    (tools / "jupyter").write_text(
        "#!/bin/sh\nexec python3 -m http.server 8888 --bind 127.0.0.1 --directory /.skerry/none\n"
    )
    (tools / "jupyter").chmod(0o755)
    one = machine(driver, template="jupyter", options={"expose": [str(tools)], "path": [str(tools)]}).start()
    assert one.report.template_url.startswith("http://127.0.0.1:8888/lab?token=")
    local = _free_port()
    with subprocess.Popen(
        one.ssh_command("-N", "-L", f"127.0.0.1:{local}:127.0.0.1:8888", "-o", "ExitOnForwardFailure=yes")
    ) as forward:
        try:
            eventually_sync(lambda: _status(local) == 404)
        finally:
            forward.terminate()
    assert one.stop() == 0


def test_jupyter_without_jupyter_is_refused(machine: Make) -> None:
    one = machine("netns", template="jupyter")
    one.begin()
    assert one.process is not None and one.process.wait(60) == 78
    assert "no `jupyter` in the image" in one.log.splitlines()[-1] and not one.leftovers()


REFUSED = {
    "an image where there are none": ({"image": "pytorch"}, "this cloud has no images"),
    "a start script of no kind": ({"start_script": "echo hello"}, "neither with #! nor with #cloud-config"),
    "a driver that is not allowed": ({"options": {"allowed": ["oci"]}}, "the operator does not allow it"),
    "an untrusted project on netns": ({"trusted": False}, "isolation_unavailable"),
    "a bad host key": ({"host_key": "nonsense"}, "host_key is not a private key"),
    "a volume over /usr": ({"volumes": [{"path": "/x", "target": "/usr/lib"}]}, "lies over a folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_refused_with_the_reason_in_the_last_line(case: str, machine: Make) -> None:
    spec, words = REFUSED[case]
    one = machine(**{"driver": "netns"} | spec)
    one.begin()
    assert one.process is not None and one.process.wait(60) == 78
    last = one.log.splitlines()[-1]
    assert last.startswith("skerry: ") and words in last, one.log
    assert not one.leftovers()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _status(port: int) -> int:
    with socket.socket() as connection:
        connection.settimeout(5)
        try:
            connection.connect(("127.0.0.1", port))
            connection.sendall(b"GET /x HTTP/1.0\r\n\r\n")
            return int(connection.recv(64).split()[1])
        except (OSError, IndexError):
            return 0


@pytest.mark.parametrize("driver", ("oci",))
def test_members_of_a_cluster_log_in_to_each_other_by_name(driver: str, machine: Make, node: Path) -> None:
    known: list[dict[str, object]] = []
    server, url = _peers_server(known)
    cluster = {"size": 2, "names": ["n0", "n1"]}
    members = []
    for rank in (0, 1):
        one = machine(driver, partition=f"p-cluster-{driver}")
        pair = {"private_key": one.keys.private("cluster"), "public_key": one.keys.public("cluster")}
        one.spec["cluster"] = cluster | pair
        (one.folder / "files/node-token").write_text("secret\n")
        one.more_env = {"SKERRY_API_URL": url, "SKERRY_NODE_RANK": str(rank)}
        members.append(one)
    first, second = members
    first.start()
    assert first.out("cat /etc/skerry/hostfile; echo $MASTER_ADDR $MASTER_PORT") == "n0\nn0 29500"
    second.start()
    known += [
        {
            "index": rank,
            "name": f"n{rank}",
            "address": one.report.address,
            "user": "root",
            "host_key": one.report.ssh.host_key,
        }
        for rank, one in enumerate(members)
    ]
    eventually_sync(lambda: first.report.peers == second.report.peers == 2)
    # Over SSH from one to all that the hostfile names, with no question asked.
    hello = "for name in $(cat /etc/skerry/hostfile); do ssh -o BatchMode=yes $name hostname </dev/null; done"
    assert first.out(hello).split() == second.out(hello).split() == ["n0", "n1"]
    for one in members:
        assert one.stop() == 0
    server.shutdown()
    server.server_close()


def _peers_server(known: list[dict[str, object]]) -> tuple[ThreadingHTTPServer, str]:
    """As much of the node API as members ask."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fine = self.path == "/api/v1/node/instances/peers" and self.headers["Authorization"] == "Bearer secret"
            body = json.dumps({"peers": known}).encode()
            self.send_response(200 if fine else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


def test_an_image_without_an_ssh_server_is_reached_all_the_same(machine: Make, node: Path) -> None:
    images = node / "images"
    root = images / "small"
    _small_root(root)
    one = machine("oci", image="small", options={"images": str(images)}, limits=LIMITS).start()
    assert one.out("cat /etc/mine; echo $0; id -un").split() == ["mine", "bash", "root"]
    assert one.ssh("echo changed >/etc/mine").code == 0
    assert (root / "etc/mine").read_text() == "mine\n"
    assert one.stop() == 0 and not one.leftovers()


def _small_root(root: Path) -> None:
    for name in ("usr/bin", "etc", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "etc/mine").write_text("mine\n")
    for name in ("bash", "cat", "id"):
        program = shutil.which(name, path="/usr/bin:/bin")
        assert program is not None
        shutil.copy(program, root / "usr/bin" / name)
        for word in subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.split():
            if word.startswith("/"):
                (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, root / word[1:])
