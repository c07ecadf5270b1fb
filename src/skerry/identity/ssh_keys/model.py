"""Values of SSH keys: what customers reach their machines with."""

from dataclasses import dataclass
from datetime import datetime

from skerry.kernel.ids import ProjectId, SshKeyId


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key as OpenSSH writes it. `fingerprint` is what `ssh-keygen -l` shows."""

    type: str
    blob: str
    """Base64."""
    comment: str
    fingerprint: str

    @property
    def line(self) -> str:
        """For `authorized_keys`."""
        return f"{self.type} {self.blob} {self.comment}".rstrip()


@dataclass(frozen=True, slots=True)
class SshKey:
    """A key that a project keeps under a name."""

    id: SshKeyId
    project: ProjectId
    name: str
    public: PublicKey
    created_at: datetime
