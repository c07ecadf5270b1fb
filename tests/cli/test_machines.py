"""`skerry instance cluster ssh volumes ssh-keys`: nothing is leased unasked, private keys stay, ssh gets words."""

import json

import pytest

from tests.cli.fake_cloud import listed, problem
from tests.machines.scene import KEY

MONEY = {"amount": "2.5", "currency": "EUR"}
ESTIMATE = {"sku": "h100.8x", "site": "no", "accelerators": 1, "charge_by": "time", "hourly": MONEY}
SSH = {"host": "10.0.0.1", "port": 22001, "user": "root", "host_key": "ssh-ed25519 AAAA", "command": "ssh …"}
BOX = {
    "id": "inst_1",
    "name": "box",
    "sku": "h100.8x",
    "site": "no",
    "accelerators": 1,
    "status": "running",
    "status_reason": {"code": "ready", "message": "Nothing to do."},
    "cost_so_far": MONEY,
    "node": "no-1",
    "ssh": SSH,
    "ssh_keys": ["SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"],
}
NODES = [{"name": f"quad-{n}", "node": f"no-{n}", "ready": True, "ssh": {**SSH, "port": 22001 + n}} for n in range(2)]
QUAD = {**BOX, "id": "clu_1", "name": "quad", "nodes": NODES, "hostfile": "quad-0 slots=8\nquad-1 slots=8\n"}


@pytest.fixture
def leasing(cloud, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    (tmp_path / "me" / ".ssh").mkdir(parents=True)

    def create(asked):
        return (200, ESTIMATE) if "dry_run" in asked.query else (201, {**BOX, "status": "pending"})

    cloud.answers |= {
        "POST /api/v1/instances": create,
        "GET /api/v1/instances/box": (200, BOX),
        "GET /api/v1/instances/inst_1": (200, BOX),
        "GET /api/v1/clusters/quad": (200, QUAD),
        "GET /api/v1/ssh-keys": listed({"id": "sshkey_1", "name": "laptop"}),
    }
    return cloud


def test_create_asks_before_it_leases_and_waits(run, leasing):
    unasked = run("instance", "create", "box")
    assert unasked.exit_code == 2 and "2.50 EUR an hour" in unasked.stderr
    assert all("dry_run" in asked.query for asked in leasing.of("/api/v1/instances"))
    words = ("--for", "2h", "--home", "1GiB", "--volume", "data:/data:ro", "--max-cost", "12.50", "--tag", "team=a")
    done = run("instance", "create", "box", "--yes", "-a", "2", *words)
    assert done.exit_code == 0 and "skerry ssh box" in done.stderr
    sent = leasing.of("/api/v1/instances")[-1].body
    assert sent == {
        "name": "box",
        "ssh_keys": ["laptop"],
        "accelerators": 2,
        "max_duration_seconds": 7200,
        "home_bytes": 1 << 30,
        "volumes": [{"volume": "data", "target": "/data", "read_only": True}],
        "max_cost": "12.50",
        "tags": {"team": "a"},
    }


def test_a_start_script_that_is_no_text_is_wrong_use(run, leasing, tmp_path):
    (tmp_path / "ls").write_bytes(b"\x7fELF\xd0\xff")
    done = run("instance", "create", "box", "--yes", "--start-script", str(tmp_path / "ls"))
    assert done.exit_code == 2 and "is not text" in done.stderr
    assert not leasing.of("/api/v1/instances")


def test_what_is_not_waited_for_cannot_be_logged_in_to_yet(run, leasing):
    done = run("instance", "create", "box", "--yes", "--no-wait")
    assert done.exit_code == 0 and "once it is running: skerry ssh box" in done.stderr


def test_a_machine_that_fails_ends_the_wait_with_its_reason(run, leasing):
    failed = {**BOX, "status": "failed", "status_reason": {"code": "refused", "message": "no runc here"}}
    leasing.answers["GET /api/v1/instances/inst_1"] = (200, failed)
    done = run("instance", "create", "box", "--yes")
    assert done.exit_code == 1 and "no runc here" in done.stderr


def test_ssh_is_given_words_a_host_key_and_the_fitting_key(run, leasing, home, tmp_path):
    private = tmp_path / "me" / ".ssh" / "id_work"
    private.write_text("secret")
    private.with_suffix(".pub").write_text(f"{KEY}\n")
    done = run("ssh", "box", "--dry-run", "--", "echo", "$HOME; id")
    command = json.loads(done.stdout)["command"]
    assert command[-4:] == ["--", "10.0.0.1", "echo", "$HOME; id"]
    assert command[command.index("-i") + 1] == str(private)
    assert (home / "ssh" / "inst_1.known_hosts").read_text() == "inst_1 ssh-ed25519 AAAA\n"
    second = json.loads(run("ssh", "quad", "--node", "1", "--dry-run").stdout)["command"]
    assert second[second.index("-p") + 1] == "22002"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("ssh", "nobody", "--dry-run"), 1, "neither an instance nor a cluster"),
        (("ssh", "quad", "--node", "7", "--dry-run"), 2, "nodes 0 to 1"),
        (("ssh", "box", "--node", "0", "--dry-run"), 2, "no nodes to choose from"),
        (("instance", "create", "box", "--volume", "data", "--yes"), 2, "data:/data"),
        (("instance", "create", "box", "--home", "much", "--yes"), 2, "20GiB"),
        (("instance", "create", "box", "--spot", "--reservation", "res_1", "--yes"), 2, "two things"),
    ],
)
def test_a_mistake_says_what_would_do(run, leasing, words, code, said):
    done = run(*words)
    assert done.exit_code == code and said in done.stderr


def test_a_machine_without_an_address_says_why(run, leasing):
    leasing.answers["GET /api/v1/instances/box"] = (200, {**BOX, "status": "stopped", "ssh": None})
    done = run("ssh", "box", "--dry-run")
    assert done.exit_code == 1 and "`skerry instance start box`" in done.stderr


def test_private_keys_stay_here(run, leasing, tmp_path):
    key = tmp_path / "id_rsa"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    done = run("ssh-keys", "add", str(key))
    assert done.exit_code == 2 and "was not sent" in done.stderr
    assert not [asked for asked in leasing.asked if asked.method == "POST"]


def test_hostfile_goes_to_stdout_alone(run, leasing):
    assert run("cluster", "hostfile", "quad").stdout == "quad-0 slots=8\nquad-1 slots=8\n"


def test_want_of_capacity_shows_what_there_is(run, leasing):
    said = problem(507, "no_capacity", "No node has 8 accelerators free.", suggestion="4 accelerators would start now.")
    leasing.answers["POST /api/v1/instances"] = lambda asked: (200, ESTIMATE) if "dry_run" in asked.query else said
    done = run("instance", "create", "box", "--yes", "-a", "8")
    assert done.exit_code == 1 and "4 accelerators would start now." in done.stderr
