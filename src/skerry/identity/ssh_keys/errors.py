"""Refusals of SSH keys. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, Invalid, NotFound


class UnknownSshKey(NotFound):
    code = "unknown_ssh_key"


class BadSshKey(Invalid):
    """Not a public key, or not one that is safe: the message says which and what to do."""

    code = "bad_ssh_key"


class SshKeyTaken(Conflict):
    """The project has a key of this name, or this key under another name."""

    code = "ssh_key_exists"
