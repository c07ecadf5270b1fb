"""A model hub over HTTPS: one question about a repository, and files from an offset on. Blocking.

The token goes to the hub's own host and nowhere else: not to where it redirects to.
"""

import encodings.idna  # noqa: F401  # nothing can be imported after privileges were dropped
import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from skerry.artifacts.errors import HubForbids, HubUnreachable, UnknownHubModel
from skerry.artifacts.hub.rules import HubRef, Listing, read_listing

ASK_SECONDS: Final = 5.0
"""For a question that somebody waits for."""
READ_SECONDS: Final = 30.0
"""Longest silence in the middle of a file."""
_MAX_ANSWER: Final = 16 * 1024**2
_REDIRECTS: Final = 5


class Hub:
    """`url`: as in `https://huggingface.co`. `token`: None for public models only."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._tls = ssl.create_default_context()

    def listing(self, ref: HubRef) -> Listing:
        """Raises HubUnreachable, HubForbids, UnknownHubModel, BadWeights."""
        path = f"/api/models/{ref.id}/revision/{quote(ref.revision, safe='')}?blobs=true"
        with self._get(self.url + path, ref.id, ASK_SECONDS) as answer:
            content = _read(answer, _MAX_ANSWER + 1)
        if len(content) > _MAX_ANSWER:
            raise HubUnreachable(f"the hub's answer about {ref.id} is longer than {_MAX_ANSWER} bytes")
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise HubUnreachable(f"what {self.url} answered is not JSON; is it a model hub?") from error
        return read_listing(value)

    @contextmanager
    def file(self, id: str, commit: str, name: str, offset: int) -> Iterator[tuple[http.client.HTTPResponse, int]]:
        """The file's bytes from some offset on, and that offset: 0 where the hub does not take up in the middle.

        Raises HubUnreachable, HubForbids, UnknownHubModel.
        """
        url = f"{self.url}/{id}/resolve/{commit}/{quote(name)}"
        headers = {"Range": f"bytes={offset}-", "Accept-Encoding": "identity"} if offset else {}
        with self._get(url, id, READ_SECONDS, headers) as answer:
            yield answer, offset if answer.status == 206 and _begins(answer, offset) else 0

    @contextmanager
    def _get(
        self, url: str, id: str, seconds: float, headers: dict[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        home = urlsplit(self.url)
        for _ in range(_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or (home.scheme == "https" and parts.scheme == "http"):
                raise HubUnreachable(f"the hub leads to {parts.scheme or 'nothing'}, which is not followed")
            connection = self._connect(parts.scheme, parts.netloc, seconds)
            try:
                answer = self._ask(connection, url, parts.netloc == home.netloc, headers or {})
                if answer.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, answer.getheader("Location") or "")
                    continue
                _require_fine(answer.status, id)
                yield answer
                return
            finally:
                connection.close()
        raise HubUnreachable("the hub leads around in circles")

    def _connect(self, scheme: str, netloc: str, seconds: float) -> http.client.HTTPConnection:
        try:
            if scheme == "https":
                return http.client.HTTPSConnection(netloc, timeout=seconds, context=self._tls)
            return http.client.HTTPConnection(netloc, timeout=seconds)
        except (http.client.InvalidURL, ValueError) as error:
            raise HubUnreachable(f"the hub leads to no sound address: {error}") from error

    def _ask(
        self, connection: http.client.HTTPConnection, url: str, home: bool, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        sent = {"User-Agent": "skerry", "Connection": "close", **headers}
        if home and self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""), headers=sent)
            return connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise HubUnreachable(f"{self.url} cannot be reached: {error or type(error).__name__}") from error


def _read(answer: http.client.HTTPResponse, most: int) -> bytes:
    try:
        return answer.read(most)
    except (OSError, http.client.HTTPException) as error:
        raise HubUnreachable(f"the hub broke off: {error or type(error).__name__}") from error


def read_some(answer: http.client.HTTPResponse, most: int) -> bytes:
    """Empty at the end. Raises HubUnreachable where it breaks off before."""
    return _read(answer, most)


def _begins(answer: http.client.HTTPResponse, offset: int) -> bool:
    return (answer.getheader("Content-Range") or "").startswith(f"bytes {offset}-")


def _require_fine(status: int, id: str) -> None:
    if status in (200, 206):
        return
    if status in (401, 403):
        raise HubForbids(id)
    if status == 404:
        raise UnknownHubModel(id)
    raise HubUnreachable(f"the hub answered {status}")
