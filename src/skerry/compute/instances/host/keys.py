"""SSH keys as text."""

from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from skerry.compute.instances.host.spec import BadSpec, Peer

SSH_PORT: Final = 22


def public_of(private: str) -> str:
    """`ssh-ed25519 AAAA…` of a private key in OpenSSH's format, without a passphrase. Raises BadSpec."""
    try:
        key = load_ssh_private_key(private.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadSpec("host_key is not a private key in OpenSSH's format without a passphrase") from error
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def as_file(private: str) -> str:
    """OpenSSH wants the last line to end."""
    return private.strip() + "\n"


def known_hosts(peers: Sequence[Peer]) -> str:
    """So that members know each other from the start."""
    return "".join(f"{peer.name},{peer.address} {peer.host_key}\n" for peer in peers)
