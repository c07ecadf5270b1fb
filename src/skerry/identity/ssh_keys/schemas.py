"""SSH keys on the wire (API §2)."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, PlainSerializer, StringConstraints

from skerry.identity.schemas.base import Wire
from skerry.identity.ssh_keys.model import SshKey
from skerry.identity.ssh_keys.rules import LONGEST
from skerry.kernel.clock import rfc3339

Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._-]{0,99}$")]


class SshKeyIn(Wire):
    """`public_key`: one line, as in `~/.ssh/id_ed25519.pub`."""

    name: KeyName
    public_key: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)]


class SshKeyOut(BaseModel):
    """`fingerprint` is what `ssh-keygen -l` shows."""

    id: str
    name: str
    type: str
    fingerprint: str
    public_key: str
    created_at: Time

    @classmethod
    def of(cls, key: SshKey) -> "SshKeyOut":
        return cls(
            id=key.id,
            name=key.name,
            type=key.public.type,
            fingerprint=key.public.fingerprint,
            public_key=key.public.line,
            created_at=key.created_at,
        )
