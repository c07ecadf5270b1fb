"""The parts of the host program that need no root: start scripts, devices, specs, images, the proxy's rules, peers."""

import asyncio
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from skerry.compute.instances.host import boot, devices, layers, limits, peers, proxy
from skerry.compute.instances.host.console import Console
from skerry.compute.instances.host.drivers import oci, seccomp
from skerry.compute.instances.host.images import read_inside
from skerry.compute.instances.host.layers import BadImage, Bounds
from skerry.compute.instances.host.limits import Groups, NoLimits
from skerry.compute.instances.host.peers import PeerSource
from skerry.compute.instances.host.plan import StagePlan
from skerry.compute.instances.host.spec import (
    BadSpec,
    ClusterMember,
    InstanceLimits,
    InstanceSpec,
    Peer,
    StartScriptState,
    check_target,
    decode,
    member_of,
)
from skerry.compute.instances.host.userdata import BadStartScript, script_of


def spec_of(**fields: Any) -> InstanceSpec:
    given = {
        "id": "i-1", "hostname": "alpha", "authorized_keys": ["ssh-ed25519 AAAA me"], "host_key": "k", "partition": "p",
    }  # fmt: skip
    return decode(json.dumps(given | fields))


def cluster_of(size: int = 3) -> dict[str, Any]:
    return {"index": 0, "size": size, "names": [f"n{i}" for i in range(size)], "private_key": "x", "public_key": "y"}


def test_a_script_is_taken_as_it_is() -> None:
    assert script_of("#!/usr/bin/env python3\nprint(1)\n") == "#!/usr/bin/env python3\nprint(1)\n"


def test_a_cloud_config_does_what_it_says(tmp_path: Path) -> None:
    config = f"""#cloud-config
write_files:
  - path: {tmp_path}/a b/greeting
    content: "it's $HOME\\n"
    permissions: "0640"
  - {{path: {tmp_path}/raw, encoding: b64, content: AAEC}}
  - {{path: {tmp_path}/raw, content: "!", append: true}}
runcmd:
  - cd {tmp_path} && echo one >one
  - [sh, -c, "echo $0 >$1", two words, {tmp_path}/two]
"""
    script = tmp_path / "script"
    script.write_text(script_of(config))
    subprocess.run(["sh", str(script)], check=True)
    assert (tmp_path / "a b/greeting").read_text() == "it's $HOME\n"
    assert stat.S_IMODE((tmp_path / "a b/greeting").stat().st_mode) == 0o640
    assert (tmp_path / "raw").read_bytes() == b"\0\1\2!"
    assert (tmp_path / "one").read_text() == "one\n" and (tmp_path / "two").read_text() == "two words\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("echo hello", "neither with #! nor with"),
        ("#cloud-config\nusers: [x]\n", "`users` is not supported"),
        ("#cloud-config\nwrite_files: [{path: rel}]\n", "write_files[0].path"),
        ("#cloud-config\nwrite_files: [{path: /x, defer: true}]\n", "write_files[0].defer"),
        ("#cloud-config\nwrite_files: [{path: /x, permissions: 420}]\n", "write_files[0].permissions"),
        ("#cloud-config\nwrite_files: [{path: /x, owner: 'a; rm'}]\n", "write_files[0].owner"),
        ("#cloud-config\nwrite_files: [{path: /x, encoding: gz+b64}]\n", "write_files[0].encoding"),
        ("#cloud-config\npackages: ['a; reboot']\n", "packages"),
        ("#cloud-config\nruncmd: [{a: b}]\n", "runcmd[0]"),
        ("#cloud-config\nruncmd: &a [x, *a]\n", "aliases"),
        ("#cloud-config\n: :\n- x", "no YAML"),
        ("#!" + "x" * (65 << 10), "bytes"),
        ("#!/bin/sh\n\0", "zero byte"),
    ],
)
def test_a_start_script_that_cannot_be_used_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(BadStartScript) as refused:
        script_of(text)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"hostname": "no spaces"}, "hostname"),
        ({"id": "../x"}, "id"),
        ({"authorized_keys": []}, "authorized_keys"),
        ({"authorized_keys": ["a\nb"]}, "authorized_keys"),
        ({"volumes": [{"path": "rel", "target": "/data"}]}, "absolute path on the node"),
        ({"volumes": [{"path": "/a", "target": "/d"}, {"path": "/b", "target": "/d"}]}, "the same target"),
        ({"image": "../../etc"}, "image"),
        ({"image": "/etc"}, "image"),
        ({"cluster": cluster_of() | {"size": 4}}, "cluster"),
        ({"cluster": cluster_of() | {"names": ["a", "a", "b"]}}, "the same name"),
        ({"limits": {"memory_bytes": 1}}, "memory_bytes"),
    ],
)
def test_a_spec_that_cannot_be_used_names_its_field(fields: Mapping[str, Any], named: str) -> None:
    with pytest.raises(BadSpec) as refused:
        spec_of(**fields)
    assert named in str(refused.value)


@pytest.mark.parametrize("target", ["/", "data", "/../etc", "/etc", "/usr/lib/x", "/proc/1", "/.skerry/tools", "/a\nb"])
def test_volumes_do_not_go_over_what_the_instance_needs(target: str) -> None:
    with pytest.raises(BadSpec):
        check_target(target)


def test_members_of_a_cluster_share_one_file() -> None:
    shared = spec_of(cluster=cluster_of(), home={"path": "/homes/c", "bytes": 1})
    second = member_of(shared, 1)
    assert (second.id, second.hostname, second.cluster and second.cluster.index) == ("i-1-1", "n1", 1)
    assert second.home is not None and second.home.path == "/homes/c/1"
    with pytest.raises(BadSpec):
        member_of(shared, 3)
    assert member_of(spec_of(), 5) == spec_of()


@pytest.mark.parametrize(("text", "indexes"), [(None, ()), ("", ()), ("0", (0,)), ("3,1,3", (1, 3))])
def test_leased_accelerators_are_those_the_engine_set(text: str | None, indexes: tuple[int, ...]) -> None:
    assert devices.leased(text) == indexes


def test_only_the_leased_accelerators_devices_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"nvidia0": 0, "nvidia1": 1, "nvidiactl": 255, "nvidia-uvm": 0}
    for name in numbers:
        (tmp_path / name).touch()
    real = Path.stat

    def fake(path: Path, **options: Any) -> Any:
        if path.parent == tmp_path and path.name in numbers:
            major = 510 if "uvm" in path.name else 195
            return SimpleNamespace(st_mode=stat.S_IFCHR | 0o666, st_rdev=os.makedev(major, numbers[path.name]))
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", fake)
    nodes = devices.nodes_of((1,), tmp_path)
    assert [(node.path, node.kind, node.major, node.minor) for node in nodes] == [
        ("/dev/nvidia1", "c", 195, 1), ("/dev/nvidiactl", "c", 195, 255), ("/dev/nvidia-uvm", "c", 510, 0),
    ]  # fmt: skip
    assert devices.nodes_of((), tmp_path) == []
    with pytest.raises(devices.NoSuchDevice, match="accelerator 7"):
        devices.nodes_of((7,), tmp_path)
    with pytest.raises(devices.NoSuchDevice):
        devices.leased("GPU-1234")
    config = oci.config(_plan(users=1 << 28), spec_of(), nodes, "x86_64")
    assert [entry["path"] for entry in config["linux"]["devices"]] == [node.path for node in nodes]
    assert config["linux"]["resources"]["devices"][0] == {"allow": False, "access": "rwm"}


def test_a_container_has_its_own_users_and_a_filter() -> None:
    config = oci.config(
        _plan(users=1 << 28), spec_of(limits={"memory_bytes": 1 << 30, "cpus": 1.5, "processes": 99}), [], "x86_64"
    )
    linux = config["linux"]
    assert {"type": "user"} in linux["namespaces"] and linux["uidMappings"][0]["hostID"] == 1 << 28
    assert linux["resources"]["memory"]["limit"] == 1 << 30 and linux["resources"]["cpu"]["quota"] == 150_000
    assert linux["resources"]["pids"]["limit"] == 99
    assert "CAP_SYS_ADMIN" not in config["process"]["capabilities"]["bounding"]
    assert "CAP_MKNOD" not in config["process"]["capabilities"]["bounding"]
    refused = {name for rule in seccomp.profile("x86_64")["syscalls"] for name in rule["names"]}
    assert {"mount", "bpf", "kexec_load", "keyctl", "unshare", "setns", "init_module"} <= refused


def _plan(**fields: Any) -> StagePlan:
    return StagePlan(name="i-1", hostname="a", root="/r", outer=[], inner=[], command=["sh"], env=[], **fields)


def test_limits_of_version_2_are_written(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    ours = tmp_path / limits.FOLDER
    ours.mkdir()
    for name in ("cgroup.procs", "cgroup.subtree_control"):
        (ours / name).write_text("cpu memory pids\n" if "subtree" in name else "")
    groups = Groups.detect(tmp_path)
    assert groups.controllers == {"cpu", "memory", "pids"}
    groups.create("i-1", InstanceLimits(memory_bytes=1 << 30, cpus=0.25, processes=64), [])
    assert (ours / "i-1/memory.max").read_text() == str(1 << 30)
    assert (ours / "i-1/cpu.max").read_text() == "25000 100000"
    assert (ours / "i-1/pids.max").read_text() == "64"


def test_a_limit_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoLimits, match="memory"):
        Groups.detect(tmp_path).create("i-1", InstanceLimits(memory_bytes=1 << 30), [])


def test_the_console_tells_the_scripts_end_from_its_output() -> None:
    out = io.StringIO()
    console = Console("mark-7", has_script=True, out=out)
    for line in ("hello", "mark-8 0", "mark-7 4", "late"):
        console.script_line(line)
    assert (console.start_script, console.start_script_exit) == (StartScriptState.FAILED, 4)
    assert console.tail == "hello\nmark-8 0"
    console.log_line("kex_exchange_identification: Connection closed by remote host")
    assert "kex" not in out.getvalue() and "start: hello" in out.getvalue()


def test_user_tables_name_each_once() -> None:
    existing = (
        "root:x:0:0:old:/root:/bin/sh\ndaemon:x:1:1::/:/usr/sbin/nologin\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n"
    )
    table = boot.passwd(spec_of(user="ada"), "/bin/bash", existing)
    assert [line.split(":")[0] for line in table.splitlines()] == ["root", "sshd", "ada", "daemon"]
    assert all(line.split(":")[1] == "*" for line in boot.shadow(table).splitlines())


PUBLIC = {
    "8.8.8.8": True, "2606:4700::1111": True, "127.0.0.1": False, "10.1.2.3": False, "192.168.1.1": False,
    "169.254.169.254": False, "100.64.0.1": False, "::1": False, "fe80::1%eth0": False, "::ffff:10.0.0.1": False,
    "224.0.0.1": False, "0.0.0.0": False, "172.20.1.1": True,
}  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_the_proxy_reaches_public_addresses_and_what_the_operator_allows(address: str) -> None:
    assert proxy.EgressProxy([ip_network("172.20.0.0/16")]).may_reach(address) is PUBLIC[address]


def test_a_proxied_request_goes_on_in_the_servers_form() -> None:
    head = b"GET http://example.org:81/a?b=1 HTTP/1.1\r\nHost: example.org:81\r\nProxy-Connection: keep-alive\r\nX-A: 1"
    host, port, first, hello = proxy.request(head)
    assert (host, port, hello) == ("example.org", 81, b"")
    assert first == b"GET /a?b=1 HTTP/1.1\r\nHost: example.org:81\r\nX-A: 1\r\nConnection: close\r\n\r\n"
    assert proxy.request(b"CONNECT [2606::1]:443 HTTP/1.1")[:2] == ("2606::1", 443)


@pytest.mark.parametrize(
    "head",
    [b"hello", b"GET / HTTP/1.1", b"GET ftp://x/ HTTP/1.1", b"CONNECT host HTTP/1.1", b"GET http://x:y/ HTTP/1.1"],
)
def test_what_is_no_proxied_request_is_refused(head: bytes) -> None:
    with pytest.raises(proxy.Refused):
        proxy.request(head)


OWN = Peer(index=1, name="n1", address="10.201.0.3", user="root", host_key="ssh-ed25519 B")
OTHERS = [
    Peer(index=2, name="n2", address="10.201.0.4", user="root", host_key="ssh-ed25519 C"),
    Peer(index=0, name="n0", address="10.201.0.2", user="root", host_key="ssh-ed25519 A"),
    Peer(index=9, name="stranger", address="10.201.0.9", user="root", host_key="ssh-ed25519 X"),
]


def test_members_know_each_other_by_name_in_order() -> None:
    spec = member_of(spec_of(cluster=cluster_of()), 1)
    files = peers.files(spec, OWN, OTHERS)
    assert files["hostfile"] == "n0\nn1\nn2\n"
    assert (
        files["known_hosts"].splitlines()[0] == "n0,10.201.0.2 ssh-ed25519 A" and "stranger" not in files["known_hosts"]
    )
    assert "export MASTER_ADDR=n0\n" in files["cluster.env"] and "export SKERRY_NODE_RANK=1\n" in files["cluster.env"]
    assert "10.201.0.4 n2" in peers.hosts(spec, OWN.address, "169.254.0.9", OTHERS)
    assert peers.complete(spec, OTHERS) and not peers.complete(spec, OTHERS[:1])


async def test_peers_are_asked_for_with_the_token_of_the_moment(tmp_path: Path) -> None:
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        body = msgspec.json.encode({"peers": [msgspec.to_builtins(OWN)], "more": 1})
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "s")
    token = tmp_path / "node-token"
    source = PeerSource(f"unix:{tmp_path / 's'}", token)
    for text in ("one", "two"):
        token.write_text(text + "\n")
        assert list(await source.peers()) == [OWN]
    server.close()
    assert [f"Authorization: Bearer {text}" in seen[number] for number, text in enumerate(("one", "two"))] == [
        True,
        True,
    ]
    assert seen[0].startswith(f"GET {peers.ROUTE} ")
    with pytest.raises(peers.NoAnswer):
        await PeerSource(f"unix:{tmp_path / 'none'}", token).peers()


def tar_of(*members: tuple[str, bytes | str, bytes], mode: str = "w:gz") -> bytes:
    """(name, content or link target, kind)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content
                archive.addfile(info)
    return out.getvalue()


def layout_of(folder: Path, *packed: bytes, architecture: str = "amd64") -> Path:
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data), "mediaType": kind}

    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/opt/bin:/bin", "A=b", "bad name=1"]},
    }
    manifest = {"layers": [blob(data, "tar+gzip") for data in packed], "config": blob(json.dumps(config).encode(), "c")}
    entry = blob(json.dumps(manifest).encode(), "m") | {"platform": {"architecture": architecture}}
    (folder / "index.json").write_text(json.dumps({"manifests": [entry]}))
    (folder / "oci-layout").write_text("{}")
    return folder


FILE, LINK, HARD, DEVICE = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="unpacking images needs root")


@needs_root
def test_layers_are_applied_in_order_with_their_whiteouts(tmp_path: Path) -> None:
    first = tar_of(("bin/sh", b"shell", FILE), ("etc/old", b"x", FILE), ("etc/keep", b"k", FILE), ("var/a", b"", FILE))
    second = tar_of(
        ("etc/.wh.old", b"", FILE),
        ("var/.wh..wh..opq", b"", FILE),
        ("bin/hard", "bin/sh", HARD),
        ("etc/link", "/abs", LINK),
    )
    layout = layout_of(tmp_path / "layout", first, second)
    layers.unpack(layout, "", "x86_64", tmp_path / "out")
    root = tmp_path / "out/root"
    assert (
        (root / "bin/hard").read_bytes() == b"shell"
        and (root / "etc/keep").exists()
        and not (root / "etc/old").exists()
    )
    assert not (root / "var/a").exists() and os.readlink(root / "etc/link") == "/abs"
    assert layers.read_env(tmp_path / "out") == {"PATH": "/opt/bin:/bin", "A": "b"}


@needs_root
def test_links_of_an_image_lead_nowhere_on_the_node(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    layer = tar_of(
        ("way", str(outside), LINK), ("way/file", b"x", FILE), ("up", "../../..", LINK), ("up/file2", b"y", FILE)
    )
    layers.unpack(layout_of(tmp_path / "layout", layer), "", "x86_64", tmp_path / "out")
    assert list(outside.iterdir()) == []
    assert (tmp_path / "out/root" / str(outside)[1:] / "file").exists()
    assert (tmp_path / "out/root/file2").read_bytes() == b"y"
    assert read_inside(tmp_path / "out/root", "way/file") == ""


@needs_root
@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("../escape", b"x", FILE), "leads out"),
        (("/abs", b"x", FILE), "leads out"),
        (("hard", "../../etc/passwd", HARD), "leads out"),
        (("hard", "missing", HARD), "not in it"),
        (("bomb", bytes(4 << 20), FILE), "bomb"),
    ],
)
def test_unsafe_images_are_refused(tmp_path: Path, member: tuple[str, bytes | str, bytes], words: str) -> None:
    with pytest.raises(BadImage, match=words):
        layers.unpack(
            layout_of(tmp_path / "layout", tar_of(member)),
            "",
            "x86_64",
            tmp_path / "out",
            Bounds(ratio=100, ratio_from=1 << 20),
        )


@needs_root
def test_device_nodes_of_an_image_are_left_out(tmp_path: Path) -> None:
    layers.unpack(
        layout_of(tmp_path / "l", tar_of(("dev/mem", "", DEVICE), ("a", b"", FILE))), "", "x86_64", tmp_path / "out"
    )
    assert not (tmp_path / "out/root/dev/mem").exists() and (tmp_path / "out/root/a").exists()


@needs_root
def test_an_image_that_was_changed_or_is_for_another_machine_is_refused(tmp_path: Path) -> None:
    layout = layout_of(tmp_path / "layout", tar_of(("a", b"x", FILE)))
    with pytest.raises(BadImage, match="nothing for arm64"):
        layers.unpack(layout, "", "aarch64", tmp_path / "arm")
    for blob in (layout / "blobs/sha256").iterdir():
        if blob.read_bytes().startswith(b"\x1f\x8b"):
            blob.write_bytes(blob.read_bytes() + b"!")
    with pytest.raises(BadImage, match="checksum"):
        layers.unpack(layout, "", "x86_64", tmp_path / "out")


@needs_root
def test_archives_of_layouts_and_of_root_folders_are_taken(tmp_path: Path) -> None:
    layout = layout_of(tmp_path / "layout", tar_of(("a", b"x", FILE)))
    with tarfile.open(tmp_path / "oci.tar", "w") as archive:
        archive.add(layout, ".")
    layers.unpack(tmp_path / "oci.tar", "", "x86_64", tmp_path / "one")
    (tmp_path / "flat.tar.gz").write_bytes(tar_of(("./b", b"y", FILE)))
    layers.unpack(tmp_path / "flat.tar.gz", "", "x86_64", tmp_path / "two")
    (tmp_path / "junk").write_bytes(b"nonsense" * 100)
    assert (tmp_path / "one/root/a").exists() and (tmp_path / "two/root/b").exists()
    with pytest.raises(BadImage, match="no readable archive"):
        layers.unpack(tmp_path / "junk", "", "x86_64", tmp_path / "three")


@needs_root
def test_what_docker_saves_is_taken(tmp_path: Path) -> None:
    config = json.dumps({"architecture": "amd64", "config": {"Env": ["X=1"]}}).encode()
    layer = tar_of(("a", b"x", FILE), mode="w")
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["r:1"], "Layers": ["l/layer.tar"]}]).encode()
    files = (("manifest.json", manifest, FILE), ("c.json", config, FILE), ("l/layer.tar", layer, FILE))
    (tmp_path / "saved.tar").write_bytes(tar_of(*files, mode="w"))
    layers.unpack(tmp_path / "saved.tar", "1", "x86_64", tmp_path / "out")
    assert (tmp_path / "out/root/a").exists() and layers.read_env(tmp_path / "out") == {"X": "1"}


def test_a_cluster_names_its_rendezvous() -> None:
    env = boot.cluster_environment(ClusterMember(index=2, size=3, names=["a", "b", "c"], private_key="", public_key=""))
    assert (env["MASTER_ADDR"], env["MASTER_PORT"], env["SKERRY_NODE_NAME"]) == ("a", "29500", "c")
