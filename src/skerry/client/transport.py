"""What the two clients share of httpx: settings, requests and its errors in our words."""

import io
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypedDict
from urllib.parse import urlsplit

import httpx

from skerry import __version__
from skerry.client.call import CONTROL, Call
from skerry.client.chat import CHAT
from skerry.client.errors import NotConfigured, NotReachable, StreamBroken

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
TROUBLE = (httpx.TransportError, httpx.DecodingError, httpx.StreamError)
"""What httpx raises where the other side or the way to it fails."""

DEFAULT_TIMEOUT = 60.0
CONNECT_TIMEOUT = 5.0
CONNECTIONS = 100
"""At once, to one server."""


class Settings(TypedDict):
    base_url: str
    headers: dict[str, str]
    timeout: httpx.Timeout
    verify: ssl.SSLContext | bool
    trust_env: bool
    limits: httpx.Limits


def settings(
    url: str,
    api_key: str,
    timeout: float,
    ca_cert: str | ssl.SSLContext | None = None,
    connections: int = CONNECTIONS,
) -> Settings:
    """Keyword arguments of an httpx client. Raises NotConfigured for what cannot be used as one."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotConfigured(
            f"{url!r} is not the address of a Skerry.", suggestion="It looks like http://127.0.0.1:8080."
        )
    if not api_key.isascii() or not api_key.isprintable() or api_key != api_key.strip():
        raise NotConfigured(
            "The API key has characters that no key has.", suggestion="A key looks like sk-… in one word."
        )
    headers = {"user-agent": f"skerry/{__version__}", "accept": "application/json"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    return {
        "base_url": url,
        "headers": headers,
        "timeout": httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
        # Reading the certificate authorities takes 0.1 s, and over plain http nothing is ever checked against them.
        "verify": parts.scheme == "https" and (_trusting(ca_cert) if isinstance(ca_cert, str) else ca_cert or True),
        # A proxy for the outside world cannot reach this machine's own address.
        "trust_env": parts.hostname not in LOOPBACK,
        "limits": httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
    }


def trust(ca_cert: str | None) -> ssl.SSLContext:
    """To be shared by many clients, since reading the authorities takes a while. Raises NotConfigured."""
    return _trusting(ca_cert) if ca_cert else httpx.create_ssl_context()


def _trusting(ca_cert: str) -> ssl.SSLContext:
    """The system's authorities and those of the file, or a server's own certificate in it."""
    context = ssl.create_default_context()
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(ca_cert)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or "it has no certificate in PEM form"
        raise NotConfigured(
            f"The certificates in {ca_cert} cannot be used: {why}",
            suggestion="SKERRY_CA_CERT names the file, or ca_cert in credentials.toml.",
        ) from error
    return context


def scoped(call: Call[Any], project: str | None) -> Mapping[str, str]:
    """The query, with the project that an operator's key acts on."""
    if project is None or not call.path.startswith(CONTROL):
        return call.query
    return {**call.query, "project": project}


class _Watched(io.FileIO):
    """A file that tells how much of it has been read."""

    def __init__(self, path: str, told: Callable[[int], None] | None) -> None:
        super().__init__(path)
        self._told = told

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size) or b""
        if self._told is not None:
            self._told(self.tell())
        return data


@contextmanager
def built(client: httpx.Client | httpx.AsyncClient, call: Call[Any], project: str | None) -> Iterator[httpx.Request]:
    """The request, with its file open for the length of the block. Raises OSError where it cannot be read."""
    common: dict[str, Any] = {"params": dict(scoped(call, project)) or None, "headers": dict(call.headers)}
    if call.patient:
        patient = httpx.Timeout(client.timeout)
        patient.read = None
        common["timeout"] = patient
    if call.upload is None:
        yield client.build_request(call.method, call.path, json=call.body, **common)
        return
    with _Watched(str(call.upload.path), call.upload.told) as file:
        form: dict[str, Any] = {"data": dict(call.upload.fields), "files": {"file": (call.upload.path.name, file)}}
        yield client.build_request(call.method, call.path, **form, **common)


def build_chat(client: httpx.Client | httpx.AsyncClient, body: Mapping[str, Any]) -> httpx.Request:
    accept = "text/event-stream" if body.get("stream") else "application/json"
    return client.build_request("POST", CHAT, json=dict(body), headers={"accept": accept})


def content_length(response: httpx.Response) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isdigit() else None


def unreachable(error: Exception, url: str) -> NotReachable:
    """The failure in one line, with the address that did not answer."""
    suggestion = "Is it running? `skerry up` starts a cloud on this machine, `skerry status` shows it."
    if isinstance(error, httpx.ConnectTimeout):
        return NotReachable(f"{url} does not answer.", suggestion=suggestion)
    if isinstance(error, httpx.ConnectError | httpx.PoolTimeout | httpx.UnsupportedProtocol | httpx.ProxyError):
        return NotReachable(f"Cannot connect to {url}: {_words(error)}", suggestion=suggestion)
    if isinstance(error, httpx.TimeoutException):
        return NotReachable(
            f"{url} took too long to answer.", suggestion="Try again, or allow it more time.", sent=True
        )
    return NotReachable(f"The connection to {url} broke: {_words(error)}", suggestion="Try again.", sent=True)


def cut_off(error: Exception) -> StreamBroken:
    return StreamBroken(f"The answer was cut off: {_words(error)}.", suggestion="Ask again.")


def _words(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
