"""Where a replica listens, and under which name others reach it."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_LOOPBACK: Final = "127.0.0.1"
_EVERYWHERE: Final = "0.0.0.0"
"""A replica asks everybody for its own key."""


@dataclass(frozen=True, slots=True)
class Listening:
    """`bind`: an IP address of this machine, or all of them. `shown`: an IP address or a host name."""

    bind: str
    shown: str

    def address(self, port: int) -> str:
        return f"http://{f'[{self.shown}]' if ':' in self.shown else self.shown}:{port}"

    @property
    def near(self) -> str:
        """By which the machine itself reaches it."""
        return _LOOPBACK if self.bind == _EVERYWHERE else self.bind


def listening(environ: Mapping[str, str]) -> Listening:
    """By the engine's word for where this node is reached; without one, this machine alone.

    A host name says nothing of the interface to listen on (on the node itself it is often 127.0.1.1): then all are.
    """
    addresses, rank = environ.get("SKERRY_NODE_ADDRESSES", ""), environ.get("SKERRY_NODE_RANK", "0")
    known = addresses.split(",") if addresses else []
    if not rank.isdigit() or int(rank) >= len(known) or not known[int(rank)]:
        return HERE
    shown = known[int(rank)]
    try:
        return Listening(str(ipaddress.ip_address(shown)), shown)
    except ValueError:
        return Listening(_EVERYWHERE, shown)


HERE: Final = Listening(_LOOPBACK, _LOOPBACK)
"""This machine alone."""
