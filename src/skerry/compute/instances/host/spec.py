"""What the control plane hands to a node for one instance (`instance.json`), and what the node reports back.

Both sides import this and nothing else of the host program. Unknown fields of a newer control plane are passed over.
"""

from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Final

import msgspec

FILE: Final = "instance.json"
"""Its name among the workload's secret files (`$SKERRY_FILES`)."""

EXIT_REFUSED: Final = 78
"""The spec or the machine does not allow it (`EX_CONFIG`); trying again changes nothing. The log's last line says
why."""

HOSTFILE: Final = "/etc/skerry/hostfile"
CLUSTER_ENV: Final = "/etc/skerry/cluster.env"
START_SCRIPT_LOG: Final = "/var/log/skerry-start.log"
RENDEZVOUS_PORT: Final = 29500

Identifier = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Hostname = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
UserName = Annotated[str, msgspec.Meta(pattern=r"^[a-z_][a-z0-9_-]{0,30}$")]
Bytes = Annotated[int, msgspec.Meta(ge=1)]


class DriverName(StrEnum):
    """How an instance is kept apart from the rest of its node."""

    AUTO = "auto"
    """The strongest that the node has and the project may use."""
    NETNS = "netns"
    """Overlay, namespaces and limits. Not a boundary between tenants: for trusted projects, one machine and CI."""
    OCI = "oci"
    """A container of runc: user namespace, seccomp, few capabilities. A boundary as far as containers are one."""
    NODE = "node"
    """The whole node, handed to the tenant's Unix user and wiped afterwards."""


class Template(StrEnum):
    """What runs beside the SSH server from the start."""

    JUPYTER = "jupyter"
    """A notebook server on the instance's own loopback, reached by SSH forward."""


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """The user's home folder, which outlives the instance's runs. `path` on the node; `bytes` is what it may take."""

    path: str
    bytes: Bytes


class VolumeMount(msgspec.Struct, frozen=True, kw_only=True):
    """`path` on the node, `target` inside: absolute, and not over what the instance itself needs."""

    path: str
    target: str
    read_only: bool = False


class InstanceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """None: none. `cpus` in cores, fractions allowed."""

    memory_bytes: Annotated[int, msgspec.Meta(ge=64 << 20)] | None = None
    cpus: Annotated[float, msgspec.Meta(gt=0)] | None = None
    processes: Annotated[int, msgspec.Meta(ge=16)] | None = None


class ClusterMember(msgspec.Struct, frozen=True, kw_only=True):
    """This instance's place in its cluster. Names are the members' hostnames by index; the keys are the cluster's
    own."""

    index: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Of one member; members share one file, and the task's node rank says which one it is (see `member_of`)."""
    size: Annotated[int, msgspec.Meta(ge=1)]
    names: list[Hostname]
    private_key: str
    public_key: str
    host_keys: list[str] = []
    """Private host keys by index; empty: all have the instance's."""


class HostOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's settings for instances on this node, not the customer's."""

    allowed: list[DriverName] = msgspec.field(default_factory=lambda: [DriverName.NETNS, DriverName.OCI])
    """Drivers that may be used for this project; `auto` chooses among them. Without `trusted`: never `netns`."""
    listen: str = "127.0.0.1"
    """Address of the node on which the SSH port is reachable."""
    address: str = ""
    """What clients are told instead, such as the node's public name; empty: `listen`."""
    ports: tuple[int, int] = (22000, 22999)
    """SSH ports of instances on this node, both ends included."""
    base: str = "/"
    """Root folder of instances without an image; `/`: programs of this machine, without its data."""
    expose: list[str] = []
    """Folders of this machine that instances see read-only under the same path, such as a Python environment."""
    images: str = ""
    """Folder below which images lie: root folders, OCI layouts or archives. Empty: instances have no images."""
    state: str = "/run/skerry/instances"
    """Where the node keeps locks, unpacked images and tools. Root's alone."""
    scratch_bytes: Bytes = 8 << 30
    """What an instance may write outside its home and volumes; gone when it stops."""
    scratch: str = ""
    """Folder for what instances write; empty: memory (it counts against the instance's limit)."""
    subnet: str = "10.201.0.0/16"
    """Addresses of instances inside their partition. Where a partition spans nodes, each node has its own slice."""
    grace_seconds: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    """Between the word to the users and the end."""
    egress_proxy: bool = True
    """Whether instances reach the internet, by an HTTP proxy of the node (public addresses only)."""
    egress_allow: list[str] = []
    """Networks that this proxy may reach though they are not public, such as a package mirror's."""
    path: list[str] = []
    """Folders (of `expose`) that come first on instances' PATH."""


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One instance, or one member of a cluster."""

    id: Identifier
    hostname: Hostname
    user: UserName = "root"
    uid: Annotated[int, msgspec.Meta(ge=0, le=60_000_000)] = 1000
    """Numeric user of `user` unless that is root: whose files volumes hold."""
    authorized_keys: Annotated[list[str], msgspec.Meta(min_length=1)]
    host_key: str
    """Private Ed25519 key in OpenSSH's format, made once by the control plane."""
    partition: Identifier
    driver: DriverName = DriverName.AUTO
    trusted: bool = False
    """Whether the project may use drivers that are no boundary (I11)."""
    image: str | None = None
    """Name below the operator's folder of images; None: the node's base."""
    start_script: str | None = None
    """`#!` script or `#cloud-config` (a subset), run once per start as root."""
    template: Template | None = None
    home: Home | None = None
    volumes: list[VolumeMount] = []
    limits: InstanceLimits = msgspec.field(default_factory=InstanceLimits)
    cluster: ClusterMember | None = None
    expires_at: datetime | None = None
    """The node ends it by itself then, should the control plane be away."""
    options: HostOptions = msgspec.field(default_factory=HostOptions)


class StartScriptState(StrEnum):
    """Where the start script is."""

    NONE = "none"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class SshAddress(msgspec.Struct, frozen=True, kw_only=True):
    """How to log in. `host_key` is the public line to put into known_hosts after the host."""

    host: str
    port: int
    user: str
    host_key: str


class InstanceReport(msgspec.Struct, frozen=True, kw_only=True):
    """`SKERRY_REPORT` of an instance that is up. `egress_bytes` counts from this run's start."""

    driver: DriverName
    boundary: bool
    """Whether the driver keeps tenants apart here, as it was started."""
    ssh: SshAddress
    address: str
    """Inside the partition; of the node where it has no partition."""
    egress_bytes: int
    ready: bool
    start_script: StartScriptState = StartScriptState.NONE
    start_script_exit: int | None = None
    start_script_tail: str = ""
    """Last lines of its output once it has ended."""
    template_url: str = ""
    """Where the template answers, on the instance's own loopback; with its token."""
    peers: int = 0
    """Members of the cluster that are known here, itself included."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A member of the cluster, as the node API's `instances/peers` answers: those that are up."""

    index: int
    name: Hostname
    address: str
    user: UserName
    host_key: str


class Peers(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /api/v1/node/instances/peers`."""

    peers: list[Peer]


class BadSpec(ValueError):
    """The spec cannot be used; the message names the field."""


def decode(data: bytes | str) -> InstanceSpec:
    """Parse and check. Raises BadSpec."""
    try:
        spec = msgspec.json.decode(data, type=InstanceSpec)
    except msgspec.MsgspecError as error:
        raise BadSpec(f"instance.json: {error}") from error
    check(spec)
    return spec


def encode(spec: InstanceSpec) -> bytes:
    return msgspec.json.encode(spec)


def check(spec: InstanceSpec) -> None:
    """What types cannot say; for the control plane too, before anything is started. Raises BadSpec."""
    for key in spec.authorized_keys:
        if "\n" in key.strip() or not key.split():
            raise BadSpec("authorized_keys: each is one line of an OpenSSH public key")
    for volume in spec.volumes:
        check_target(volume.target)
    for path in [volume.path for volume in spec.volumes] + ([spec.home.path] if spec.home else []):
        if not PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise BadSpec(f"path {path!r} is not an absolute path on the node")
    targets = [volume.target for volume in spec.volumes]
    if len(set(targets)) != len(targets):
        raise BadSpec("volumes: two have the same target")
    if spec.cluster is not None:
        cluster = spec.cluster
        if len(cluster.names) != cluster.size or (cluster.index or 0) >= cluster.size:
            raise BadSpec("cluster: names and index must fit size")
        if len(set(cluster.names)) != cluster.size:
            raise BadSpec("cluster: two members have the same name")
        if cluster.host_keys and len(cluster.host_keys) != cluster.size:
            raise BadSpec("cluster: host_keys must be empty or one for each member")
    if spec.image is not None and (PurePosixPath(spec.image).is_absolute() or ".." in PurePosixPath(spec.image).parts):
        raise BadSpec(f"image {spec.image!r} is not a name below the folder of images")


def member_of(spec: InstanceSpec, rank: int) -> InstanceSpec:
    """The spec of one member of a cluster, whose members share one file. Others stay as they are. Raises BadSpec.

    Each member has its own id (`ID-RANK`), hostname and, where there are several, host key and home (`PATH/RANK`).
    """
    cluster = spec.cluster
    if cluster is None:
        return spec
    if rank >= cluster.size:
        raise BadSpec(f"cluster: there is no member {rank} among {cluster.size}")
    home = spec.home
    return msgspec.structs.replace(
        spec,
        id=f"{spec.id}-{rank}",
        hostname=cluster.names[rank],
        host_key=cluster.host_keys[rank] if cluster.host_keys else spec.host_key,
        home=msgspec.structs.replace(home, path=f"{home.path}/{rank}") if home is not None else None,
        cluster=msgspec.structs.replace(cluster, index=rank),
    )


_TAKEN: Final = (
    "/etc",
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/boot",
    "/.skerry",
)


def check_target(target: str) -> None:
    """Where a volume may be mounted inside. Raises BadSpec."""
    path = PurePosixPath(target)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or "\n" in target or "\0" in target:
        raise BadSpec(f"volume target {target!r} is not an absolute path below /")
    if any(path == PurePosixPath(taken) or PurePosixPath(taken) in path.parents for taken in _TAKEN):
        raise BadSpec(f"volume target {target!r} lies over a folder that the instance needs; use one such as /data")
