"""The public port's certificate: read by the launcher, which may, and handed to the gateways in memory.

A gateway runs as a user who cannot read the key. The launcher reads both files whenever it is told to (SIGHUP), tries
them out, and keeps what works in a file without a name: its descriptor is all that a gateway inherits.
"""

import fcntl
import os
import re
import ssl
from pathlib import Path
from typing import Final

TLS_FD: Final = "SKERRY_TLS_FD"
MAX_PEM: Final = 1024 * 1024
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.S)
_KEY: Final = re.compile(
    rb"-----BEGIN ((?:ENCRYPTED |[A-Z]+ )?PRIVATE KEY)-----.*?-----END \1-----", re.S
)  # fmt: skip
_SEALS: Final = 0x1 | 0x2 | 0x4 | 0x8
"""F_SEAL_SEAL, _SHRINK, _GROW and _WRITE: nobody changes it again."""


class BadCertificate(Exception):
    """Certificate or key that cannot be used; the message is one line that says which and why."""


def read_pem(cert: Path, key: Path) -> bytes:
    """The chain of `cert` and the key of `key`, tried out. Raises BadCertificate."""
    chain = [match.group(0) for match in _CERTIFICATE.finditer(_read(cert))]
    found = _KEY.search(_read(key))
    if not chain:
        raise BadCertificate(f"{cert} has no certificate in PEM form")
    if found is None:
        raise BadCertificate(f"{key} has no private key in PEM form")
    if b"ENCRYPTED" in found.group(0)[:200]:
        raise BadCertificate(f"{key} is encrypted: store the key without a passphrase, readable by its owner only")
    pem = b"\n".join([*chain, found.group(0), b""])
    descriptor = in_memory(pem)
    try:
        server_context(descriptor)
    except ssl.SSLError as error:
        if "MISMATCH" in str(error.reason):
            raise BadCertificate(f"the key in {key} is not that of the certificate in {cert}") from error
        raise BadCertificate(f"{cert} and {key} cannot be used: {error.reason or error}") from error
    finally:
        os.close(descriptor)
    return pem


def in_memory(pem: bytes) -> int:
    """A descriptor that reads as `pem` and cannot be written to. No file system ever holds it."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, pem)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def server_context(descriptor: int) -> ssl.SSLContext:
    """TLS 1.2 or newer, HTTP/1.1 only. `descriptor` is what `in_memory` gave. Raises ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client that asks for new keys again and again would cost us far more than itself.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_passphrase)
    return context


def probe_context(cert: Path) -> ssl.SSLContext:
    """For our own look at the public port, whatever name it was reached by: trusts the certificate of `cert` itself."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cert)
    return context


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_PEM)
    except OSError as error:
        raise BadCertificate(f"{path} cannot be read: {error.strerror}") from error


def _no_passphrase() -> bytes:
    """Instead of OpenSSL's question on the terminal."""
    return b""
