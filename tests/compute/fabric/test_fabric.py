"""One contract for all fabrics: real namespaces where this is root, doubles for switches and subnet managers."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from skerry.compute.fabric import ip
from skerry.compute.fabric.base import Fabric, FabricError, PartitionFull
from skerry.compute.fabric.identifiers import Identifiers
from skerry.compute.fabric.infiniband import BEGIN, HIGH_KEY, LOW_KEY, PKeyFabric, Port
from skerry.compute.fabric.partitions import NamespaceFabric, namespace_of
from skerry.compute.fabric.vlan import VlanFabric
from tests.compute.fabric.doubles import FakeLinks, FakeSubnetManager

GUID = "0x0002c9030012abcd"


@dataclass
class Site:
    """A fabric, two partitions nobody else has, and members who are there."""

    fabric: Fabric
    home: str
    other: str
    pid: Callable[[], int | None]
    send: Callable[[int], None]
    names: tuple[str, str] = ("i-one", "i-two")


@pytest.fixture(params=["namespaces", "vlan", "infiniband"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if request.param == "namespaces":
        yield from _namespaces(tmp_path)
    elif request.param == "vlan":
        links = FakeLinks(tmp_path / "net")
        numbers = Identifiers(tmp_path / "vlans.json", 100, 101)
        fabric = VlanFabric(
            "eth1",
            "n1",
            numbers,
            "10.201.3.0/24",
            "switch-config {action} {vlan} {node}",
            run=links,
            counters=tmp_path / "net",
        )
        yield Site(fabric, "p-a", "p-b", lambda: None, lambda count: _count(tmp_path / "net/skv100", count))
    else:
        fabric, manager = _infiniband(tmp_path)
        manager(["pkill", "-HUP", "opensm"])
        yield Site(fabric, "p-a", "p-b", lambda: None, lambda count: _count(tmp_path / "net/ib0", count))


def _namespaces(tmp_path: Path) -> Iterator[Site]:
    if os.geteuid() != 0 or shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin") is None:
        if os.environ.get("CI"):
            pytest.fail("partitions cannot be tried: they need root and iproute2")
        pytest.skip("partitions need root and iproute2 (scripts/instance-packages.sh)")
    started: list[subprocess.Popen[bytes]] = []

    def member() -> int:
        process = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline()
        started.append(process)
        return process.pid

    home, other = f"p-{tmp_path.name}-{os.getpid()}", f"q-{tmp_path.name}-{os.getpid()}"
    # Names of its own: `keep` is about the whole node, and others run instances on it.
    names = (f"i-{os.getpid()}-one", f"i-{os.getpid()}-two")
    fabric = NamespaceFabric("10.201.0.0/16", tmp_path)

    def send(count: int) -> None:
        script = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        script += f" s.sendto(bytes({count}), ('169.254.0.9', 9))"
        subprocess.run(["nsenter", f"--net=/proc/{started[0].pid}/ns/net", "python3", "-c", script], check=True)

    yield Site(fabric, home, other, member, send, names)
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    for partition in (home, other):
        for name in names:
            fabric.detach(partition, name)
        assert not ip.named(namespace_of(partition)).exists()


def _infiniband(tmp_path: Path) -> tuple[PKeyFabric, FakeSubnetManager]:
    keys = tmp_path / "pkeys"
    keys.mkdir()
    conf = tmp_path / "partitions.conf"
    conf.write_text("Default=0x7fff, ipoib: ALL=limited, SELF=full;\n")
    manager = FakeSubnetManager(conf, {GUID: keys})
    counters = tmp_path / "net/ib0/statistics"
    counters.mkdir(parents=True)
    (counters / "tx_bytes").write_text("0")
    fabric = PKeyFabric(
        conf,
        Port(GUID, keys),
        Identifiers(tmp_path / "keys.json", LOW_KEY, HIGH_KEY),
        "pkill -HUP opensm",
        run=manager,
        counters=tmp_path / "net",
        wait_seconds=0.2,
    )
    return fabric, manager


def _count(interface: Path, count: int) -> None:
    path = interface / "statistics/tx_bytes"
    path.write_text(str(int(path.read_text()) + count))


def test_attaching_again_changes_nothing(site: Site) -> None:
    pid = site.pid()
    first = site.fabric.attach(site.home, site.names[0], pid)
    assert site.fabric.attach(site.home, site.names[0], pid) == first
    assert [member.name for member in site.fabric.members(site.home)] == [site.names[0]]


def test_partitions_do_not_share_members(site: Site) -> None:
    one = site.fabric.attach(site.home, site.names[0], site.pid())
    two = site.fabric.attach(site.other, site.names[1], site.pid())
    assert (one.partition, two.partition) == (site.home, site.other)
    assert [member.name for member in site.fabric.members(site.home)] == [site.names[0]]
    assert [member.name for member in site.fabric.members(site.other)] == [site.names[1]]


def test_what_is_detached_is_gone_and_may_be_detached_again(site: Site) -> None:
    site.fabric.attach(site.home, site.names[0], site.pid())
    for _ in range(2):
        site.fabric.detach(site.home, site.names[0])
        assert site.fabric.members(site.home) == []
    site.fabric.detach("nobody-has-this", site.names[0])


def test_another_member_is_not_detached_along(site: Site) -> None:
    site.fabric.attach(site.home, site.names[0], site.pid())
    site.fabric.detach(site.home, "somebody-else")
    assert [member.name for member in site.fabric.members(site.home)] == [site.names[0]]


def test_egress_grows_by_what_is_sent_out(site: Site) -> None:
    attached = site.fabric.attach(site.home, site.names[0], site.pid())
    before = site.fabric.egress_bytes(attached)
    site.send(1200)
    assert site.fabric.egress_bytes(attached) >= before + 1200


def test_members_that_do_not_live_are_removed(site: Site) -> None:
    site.fabric.attach(site.home, site.names[0], site.pid())
    site.fabric.attach(site.other, site.names[1], site.pid())
    assert list(site.fabric.keep(lambda name: name != site.names[1])) == [site.names[1]]
    assert [member.name for member in site.fabric.members(site.home)] == [site.names[0]]
    assert site.fabric.members(site.other) == []


def test_an_address_is_free_again_when_its_member_is_gone(site: Site) -> None:
    one = site.fabric.attach(site.home, site.names[0], site.pid())
    site.fabric.detach(site.home, site.names[0])
    assert site.fabric.attach(site.home, site.names[1], site.pid()).address == one.address


def test_a_partition_can_be_full(tmp_path: Path) -> None:
    numbers = Identifiers(tmp_path / "table.json", 1, 2)
    assert [numbers.of(name) for name in ("a", "b", "a")] == [1, 2, 1]
    with pytest.raises(PartitionFull):
        numbers.of("c")
    numbers.release("a")
    assert numbers.of("c") == 1


def test_a_vlan_is_let_through_the_switch_while_a_member_is_there(tmp_path: Path) -> None:
    links = FakeLinks(tmp_path)
    numbers = Identifiers(tmp_path / "vlans.json", 100, 200)
    fabric = VlanFabric(
        "eth1", "n1", numbers, "10.201.3.0/24", "switch-config {action} {vlan} {node}", run=links, counters=tmp_path
    )
    attached = fabric.attach("p-a", "i-one", pid=7)
    assert (attached.interface, attached.address, attached.mtu) == ("skv100", "10.201.3.2/24", 9000)
    assert links.allowed == {("n1", "100")}
    fabric.detach("p-a", "i-one")
    assert links.allowed == set() and list(links.links) == ["eth1"]


def test_a_vlan_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    links = FakeLinks(tmp_path)
    links.fails_at = "address add"
    fabric = VlanFabric(
        "eth1",
        "n1",
        Identifiers(tmp_path / "v.json", 100, 200),
        "10.201.3.0/24",
        "switch-config {action} {vlan} {node}",
        run=links,
    )
    with pytest.raises(FabricError, match="refused"):
        fabric.attach("p-a", "i-one")
    assert list(links.links) == ["eth1"] and links.allowed == set()


def test_a_switch_command_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        VlanFabric("eth1", "n1", Identifiers(tmp_path / "v.json", 100, 200), "10.201.3.0/24", "switch-config {speed}")


def test_the_rest_of_partitions_conf_stays_as_it_was(tmp_path: Path) -> None:
    fabric, manager = _infiniband(tmp_path)
    before = manager.conf.read_text()
    fabric.attach("p-a", "i-one")
    assert manager.conf.read_text().startswith(before + BEGIN)
    assert f"skerry_0002=0x8002, ipoib: {GUID}=full;" in manager.conf.read_text()
    fabric.detach("p-a", "i-one")
    assert manager.conf.read_text() == before


def test_a_subnet_manager_that_is_away_changes_nothing(tmp_path: Path) -> None:
    fabric, manager = _infiniband(tmp_path)
    before, manager.fails = manager.conf.read_text(), True
    with pytest.raises(FabricError, match="no process"):
        fabric.attach("p-a", "i-one")
    assert manager.conf.read_text() == before


def test_a_key_that_does_not_come_is_named(tmp_path: Path) -> None:
    fabric, manager = _infiniband(tmp_path)
    manager.deaf = True
    with pytest.raises(FabricError, match="0x8002"):
        fabric.attach("p-a", "i-one")
