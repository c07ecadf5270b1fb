"""The public port's certificate: what is taken, what is refused and with which words, and where it never goes."""

import os
import ssl
from pathlib import Path

import pytest

from skerry.server.certificate import BadCertificate, in_memory, probe_context, read_pem, server_context
from tests.certificates import write_certificate


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> ssl.SSLObject:
    """The client's side after a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return theirs


def _served(cert: Path, key: Path) -> ssl.SSLContext:
    descriptor = in_memory(read_pem(cert, key))
    try:
        return server_context(descriptor)
    finally:
        os.close(descriptor)


def test_a_good_pair_serves_http_1_1_over_tls_1_2_or_newer(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    client = ssl.create_default_context(cafile=cert)
    client.set_alpn_protocols(["h2", "http/1.1"])
    done = _handshake(_served(cert, key), client)
    assert done.version() == "TLSv1.3" and done.selected_alpn_protocol() == "http/1.1"


def test_older_tls_is_refused(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    client = ssl.create_default_context(cafile=cert)
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        client.minimum_version, client.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        _handshake(_served(cert, key), client)


def test_certificate_and_key_may_share_a_file(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    assert read_pem(both, both).count(b"BEGIN CERTIFICATE") == 1
    assert _handshake(_served(both, both), ssl.create_default_context(cafile=cert)).version() == "TLSv1.3"


def test_what_cannot_be_used_is_refused_in_one_line_that_names_the_file(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    _, other = write_certificate(tmp_path, "other")
    nothing, text, locked = tmp_path / "nothing", tmp_path / "text", tmp_path / "locked"
    text.write_text("hello")
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    torn = tmp_path / "torn"
    torn.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for pair, words in (
        ((nothing, key), f"{nothing} cannot be read: No such file or directory"),
        ((cert, tmp_path), f"{tmp_path} cannot be read: Is a directory"),
        ((text, key), f"{text} has no certificate in PEM form"),
        ((cert, text), f"{text} has no private key in PEM form"),
        ((cert, locked), f"{locked} is encrypted: store the key without a passphrase, readable by its owner only"),
        ((cert, other), f"the key in {other} is not that of the certificate in {cert}"),
    ):
        with pytest.raises(BadCertificate) as caught:
            read_pem(*pair)
        assert str(caught.value) == words
    with pytest.raises(BadCertificate, match="cannot be used"):
        read_pem(torn, key)


def test_what_gateways_are_handed_is_in_no_file_system_and_cannot_be_changed(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    descriptor = in_memory(read_pem(cert, key))
    try:
        assert os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:")
        assert os.fstat(descriptor).st_nlink == 0 and not os.get_inheritable(descriptor)
        with pytest.raises(OSError, match="not permitted"):
            os.pwrite(descriptor, b"x", 0)
        for _ in range(2):  # each gateway reads it from the start
            server_context(descriptor)
    finally:
        os.close(descriptor)


def test_our_own_probe_trusts_this_certificate_under_any_name_and_no_other(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    other = write_certificate(tmp_path, "other")
    assert _handshake(_served(cert, key), probe_context(cert), "api.example.org").version()
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(_served(*other), probe_context(cert))
