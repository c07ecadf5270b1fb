"""Calls of a node to the control API, over TCP, TLS or a Unix socket. Standard library only; blocking."""

import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

PREFIX: Final = "/api/v1/node"
CALL_SECONDS: Final = 20.0
_UNIX: Final = "unix:"
_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_ANSWER_MAX: Final = 1 << 20


class Refused(Exception):
    """The API said no, for good."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Away(Exception):
    """No answer, or one that says to come again. Nothing may be concluded."""


def connect(url: str, timeout: float = CALL_SECONDS) -> socket.socket:
    """A connection to where the API is. Raises OSError, ValueError for a URL that is none."""
    if url.startswith(_UNIX):
        return _connect_unix(url[len(_UNIX) :], timeout)
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise ValueError(f"{url!r} is not where an API can be")
    plain = socket.create_connection((parts.hostname, parts.port or (443 if secure else 80)), timeout)
    if not secure:
        return plain
    return ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)


def host_of(url: str) -> str:
    return "skerry" if url.startswith(_UNIX) else urlsplit(url).netloc


class Api:
    """`token` is read anew for every call: it is renewed."""

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        self._url = url
        self._token = token

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One call, with an answer in JSON. Raises Refused, Away."""
        sent = None if body is None else json.dumps(body).encode()
        with self.open(method, path, sent, {"content-type": "application/json"} if sent is not None else {}) as answer:
            data = answer.read(_ANSWER_MAX)
        try:
            return json.loads(data) if data else None
        except ValueError as error:
            raise Away(f"the answer of {path} is no JSON: {error}") from error

    @contextmanager
    def open(
        self, method: str, path: str, body: bytes | IO[bytes] | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer of status 2xx, to be read. Raises Refused, Away."""
        connection = _Connection(self._url)
        try:
            connection.request(
                method, f"{PREFIX}/{path}", body, {**(headers or {}), "authorization": f"Bearer {self._token()}"}
            )
            answer = connection.getresponse()
            _require_good(answer, path)
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise Away(f"{path}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()


def patiently(act: Callable[[], Any], seconds: float) -> Any:
    """Do it again while the API is away, for so long. Raises Refused, Away."""
    end = time.monotonic() + seconds
    attempt = 0
    while True:
        try:
            return act()
        except Away:
            pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
            if time.monotonic() + pause > end:
                raise
            time.sleep(pause)
            attempt += 1


class _Connection(http.client.HTTPConnection):
    def __init__(self, url: str) -> None:
        super().__init__(host_of(url), timeout=CALL_SECONDS)
        self._url = url

    def connect(self) -> None:
        self.sock = connect(self._url)


def _connect_unix(path: str, timeout: float) -> socket.socket:
    """A socket's address has 108 bytes at most: a longer path is reached through its folder."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    found.settimeout(timeout)
    folder = -1
    try:
        address = path
        if len(os.fsencode(path)) > 100:
            folder = os.open(Path(path).parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            address = f"/proc/self/fd/{folder}/{Path(path).name}"
        found.connect(address)
    except OSError:
        found.close()
        raise
    finally:
        if folder >= 0:
            os.close(folder)
    return found


def _require_good(answer: http.client.HTTPResponse, path: str) -> None:
    if 200 <= answer.status < 300:
        return
    data = answer.read(_ANSWER_MAX)
    try:
        found = json.loads(data)
        words = f"{found.get('code', answer.status)}: {found.get('detail', '')}"
    except (ValueError, AttributeError):
        words = f"status {answer.status}"
    if answer.status >= 500 or answer.status in (408, 425, 429):
        raise Away(f"{path}: {words}")
    raise Refused(answer.status, f"{path}: {words}")
