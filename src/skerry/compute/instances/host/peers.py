"""Members of a cluster knowing each other: names, keys, hostfile. Pure text, and the question to the node API."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from skerry.compute.instances.host import keys
from skerry.compute.instances.host.boot import cluster_environment
from skerry.compute.instances.host.spec import ClusterMember, InstanceSpec, Peer, Peers

ROUTE: Final = "/api/v1/node/instances/peers"
TOKEN: Final = "node-token"  # noqa: S105 - a file's name
_SECONDS: Final = 10.0
_ANSWER_BYTES: Final = 4 << 20


class NoAnswer(RuntimeError):
    """The control plane does not answer, or not with peers; asked again later."""


class PeerSource:
    """Asks with the attempt's token, which is read anew each time: it is renewed meanwhile."""

    def __init__(self, url: str, token: Path) -> None:
        self._url = url
        self._token = token

    async def peers(self) -> Sequence[Peer]:
        """Raises NoAnswer."""
        try:
            token = self._token.read_text().strip()
            status, body = await asyncio.to_thread(_get, self._url, token)
            if status != HTTPStatus.OK:
                raise NoAnswer(f"{ROUTE} answered {status}: {body[:200].decode(errors='replace')}")
            return msgspec.json.decode(body, type=Peers).peers
        except (OSError, HTTPException, msgspec.MsgspecError) as error:
            raise NoAnswer(f"{ROUTE}: {error}") from error


def hosts(spec: InstanceSpec, address: str, gateway: str, peers: Sequence[Peer] = ()) -> str:
    """/etc/hosts. A member's own name is its address in the partition, as its peers see it."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost", f"{address} {spec.hostname}"]
    if gateway:
        lines.append(f"{gateway} skerry-egress")
    lines += [f"{peer.address} {peer.name}" for peer in _others(spec, peers)]
    return "\n".join(lines) + "\n"


def files(spec: InstanceSpec, own: Peer, peers: Sequence[Peer]) -> Mapping[str, str]:
    """What a member finds in /etc/skerry, by name: who is up, in order of their index."""
    cluster = spec.cluster
    assert cluster is not None
    known = sorted([own, *_others(spec, peers)], key=lambda peer: peer.index)
    return {
        "hostfile": "".join(f"{peer.name}\n" for peer in known),
        "known_hosts": keys.known_hosts(known),
        "cluster.env": _exports(cluster),
    }


def complete(spec: InstanceSpec, peers: Sequence[Peer]) -> bool:
    return spec.cluster is None or len(_others(spec, peers)) + 1 >= spec.cluster.size


def _others(spec: InstanceSpec, peers: Sequence[Peer]) -> list[Peer]:
    """Members other than ourselves, each once; what has no name of this cluster is none."""
    if spec.cluster is None:
        return []
    names = set(spec.cluster.names) - {spec.hostname}
    return list({peer.name: peer for peer in peers if peer.name in names}.values())


def _exports(cluster: ClusterMember) -> str:
    return "".join(f"export {name}={value}\n" for name, value in cluster_environment(cluster).items())


def _get(url: str, token: str) -> tuple[int, bytes]:
    """`unix:PATH` is the control API's socket on its own machine. The standard library's client starts at once."""
    parts = urlsplit(url)
    connection: HTTPConnection
    if url.startswith("unix:"):
        connection = _UnixConnection(url.removeprefix("unix:"))
    elif parts.scheme == "https":
        connection = HTTPSConnection(parts.netloc, timeout=_SECONDS)
    else:
        connection = HTTPConnection(parts.netloc, timeout=_SECONDS)
    try:
        prefix = "" if url.startswith("unix:") else parts.path.rstrip("/")
        connection.request("GET", prefix + ROUTE, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read(_ANSWER_BYTES)
    finally:
        connection.close()


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("skerry", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)
