"""Four virtual nodes on one machine: a cluster that says hello over real SSH, and a key that opens nothing."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.cloud import Cloud, eventually_equal

HELLO = "for node in $(cat /etc/skerry/hostfile); do ssh $node 'echo hello from $(hostname)'; done"

pytestmark = [
    pytest.mark.cloud,
    pytest.mark.skipif(os.geteuid() != 0, reason="machines are started by root"),
]


@pytest.fixture
def nodes() -> Iterator[Cloud]:
    cloud = Cloud()
    try:
        yield cloud.start("--virtual-nodes", "4")
    finally:
        cloud.close()


def test_a_cluster_of_four_nodes_says_hello_over_ssh(nodes: Cloud) -> None:
    key, wrong = nodes.home / "key", nodes.home / "wrong"
    for path in (key, wrong):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    private = nodes.cli("ssh-keys", "add", str(key))
    assert private.returncode == 2 and "was not sent" in private.stderr
    assert nodes.cli("ssh-keys", "add", f"{key}.pub", "--name", "mine").returncode == 0

    made = nodes.cli("cluster", "create", "quad", "-n", "4", "--home", "16MiB", "--yes", timeout=200.0)
    assert made.returncode == 0, f"{made.stderr}\n{nodes.words()}"
    said = nodes.cli("ssh", "quad", "-i", str(key), "--", HELLO, timeout=120.0)
    assert said.stdout.split() == [word for n in range(4) for word in ("hello", "from", f"quad-{n}")], said.stderr
    kept = nodes.cli("ssh", "quad", "--node", "3", "-i", str(key), "--", "hostname > note; cat note", timeout=60.0)
    assert kept.stdout == "quad-3\n", kept.stderr
    refused = nodes.cli("ssh", "quad", "-i", str(wrong), "--", "true", timeout=60.0)
    assert refused.returncode == 255 and "Permission denied" in refused.stderr

    seen = nodes.get("/api/v1/clusters/quad", nodes.project_key).json()
    assert seen["hostfile"].splitlines()[0].startswith("quad-0 slots=")
    assert float(seen["cost_so_far"]["amount"]) > 0
    full = nodes.cli("instance", "create", "more", "-a", "1", "--home", "0", "--yes")
    assert full.returncode == 1 and "free" in full.stderr
    assert nodes.cli("cluster", "terminate", "quad", "--yes").returncode == 0

    def status() -> str:
        return str(nodes.get(f"/api/v1/clusters/{seen['id']}", nodes.project_key).json()["status"])

    eventually_equal(status, "terminated", 90.0)
    eventually_equal(lambda: nodes.get("/api/v1/volumes", nodes.project_key).json()["data"], [], 60.0)
