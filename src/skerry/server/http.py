"""What stands around the app: request ids, one log line a request, body limits, and text that a database can hold."""

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote_to_bytes
from uuid import uuid4

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skerry.kernel.errors import FieldError, Invalid, Malformed, SkerryError, TooLarge
from skerry.runtime.log import bound_request_id
from skerry.server.errors import Rendered, internal, render
from skerry.server.telemetry import ServerMetrics

PREFIX: Final = "/api/v1"
OPENAI_PREFIX: Final = "/v1"
CLIENT_IP: Final = b"x-skerry-client-ip"
"""Set by the gateway, which drops whatever its clients send under this name."""

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{8,128}")
_ADDRESS: Final = re.compile(rb"[0-9A-Fa-f.:]{2,45}")
_ESCAPE_TO_CHECK: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_EVERYWHERE: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
_LONGEST_QUERY: Final = 16 * 1024


class RequestFrame:
    """The outermost layer: every answer has an id, every request one log line, and every accident becomes a 500."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self.app = app
        self.metrics = metrics
        self.log = structlog.get_logger("skerry.server.requests")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = _request_id(headers)
        state = scope.setdefault("state", {})
        state["request_id"], state["origin"] = request_id, _origin(headers, scope)
        answer = _Answer(send, request_id)
        started = time.perf_counter()
        with bound_request_id(request_id):
            try:
                await self.app(scope, receive, answer)
            except asyncio.CancelledError:
                answer.status = answer.status or 499
                raise
            except Exception:
                self.log.exception("request_failed", method=scope["method"], path=scope["path"])
                if answer.status:
                    raise  # half an answer is out: the connection has to break
                await send_rendered(answer, render(internal(request_id), scope["path"]))
            finally:
                self._note(scope, answer, time.perf_counter() - started)

    def _note(self, scope: Scope, answer: "_Answer", seconds: float) -> None:
        principal = scope["state"].get("principal")
        route = route_template(scope) or "unknown"
        self.metrics.observe(scope["method"], route, answer.status, seconds)
        self.log.info(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=answer.status,
            ms=round(seconds * 1000, 1),
            key=principal.key_id if principal else None,
            origin=scope["state"]["origin"],
        )


class BodyGuard:
    """Reads the body whole before the app sees the request, and refuses what is too large or cannot be stored.

    Strings with NUL and lone surrogates are valid JSON, but PostgreSQL cannot hold them: 422, not a 500 deep inside.
    Bodies of `streamed` (the most bytes by method and path; a path that ends in a slash is for all below it) reach the
    app as they come, counted and nothing else.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, streamed: Mapping[tuple[str, str], int] = MappingProxyType({})
    ) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self._most_streamed(scope["method"], scope["path"])
        try:
            _check_target(scope)
            headers = dict(scope["headers"])
            _check_framing(headers, [name for name, _ in scope["headers"]], self.max_bytes if most is None else most)
            body = await self._read(receive) if most is None else b""
            if body is None:
                return  # the client went away
            check_text(body)
        except SkerryError as error:
            await send_rendered(send, render(error, scope["path"]))
            return
        if most is not None:
            await self.app(scope, counted(receive, most), send)
            return
        scope["state"]["body"] = body
        await self.app(scope, replay(body, receive), send)

    def _most_streamed(self, method: str, path: str) -> int | None:
        exact = self.streamed.get((method, path))
        if exact is not None:
            return exact
        below = (
            most
            for (its, prefix), most in self.streamed.items()
            if its == method and prefix.endswith("/") and path.startswith(prefix)
        )
        return next(below, None)

    async def _read(self, receive: Receive) -> bytes | None:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self.max_bytes:
                raise _too_large(self.max_bytes)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)


def check_text(body: bytes) -> None:
    """Raises Malformed for what is not UTF-8, Invalid for JSON strings that no database column can hold."""
    if not body:
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8 (at byte {error.start}).", code="not_utf8") from None
    if b"\x00" in body:
        raise Malformed("The body has a NUL byte.", code="nul_byte")
    if not _ESCAPE_TO_CHECK.search(body):
        return
    try:
        path = next(_unstorable(json.loads(body), ()), None)
    except ValueError:
        return  # whoever reads it will say so
    except RecursionError:
        raise Malformed("The body is nested too deeply.", code="too_deep") from None
    if path is not None:
        message = "it has a NUL character or half of a surrogate pair"
        raise Invalid(f"{path}: {message}", errors=[FieldError(path, "unstorable_text", message)])


def replay(body: bytes, receive: Receive) -> Receive:
    """The body again, once; then whatever comes (a disconnect)."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def counted(receive: Receive, most: int) -> Receive:
    """The same body; raises TooLarge to whoever reads past `most` bytes of it."""
    size = 0

    async def counting() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise _too_large(most)
        return message

    return counting


def route_template(scope: Scope) -> str | None:
    """`/api/v1/api-keys/{id}`; None where no route was found."""
    path: str | None = getattr(scope.get("route"), "path", None)
    if path is None:
        return None
    # Included routers know their own part only.
    for prefix in (PREFIX, OPENAI_PREFIX):
        if scope["path"].startswith(f"{prefix}/") and not path.startswith(f"{prefix}/"):
            return prefix + path
    return path


async def send_rendered(send: Send, answer: Rendered) -> None:
    headers = [(name.encode(), value.encode("latin-1", "replace")) for name, value in answer.headers.items()]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


class _Answer:
    """`send` that notes the status and adds the headers that every answer has."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.send = send
        self.request_id = request_id.encode()
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            kept = [(k, v) for k, v in message.get("headers", ()) if k.lower() != b"x-request-id"]
            own = {name for name, _ in kept}
            ours = [(name, value) for name, value in _EVERYWHERE if name not in own]
            message["headers"] = [*kept, (b"x-request-id", self.request_id), *ours]
        await self.send(message)


def _request_id(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id", b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else f"req_{uuid4().hex}"


def _origin(headers: dict[bytes, bytes], scope: Scope) -> str:
    given = headers.get(CLIENT_IP, b"")
    if _ADDRESS.fullmatch(given):
        return given.decode()
    client = scope.get("client")
    return str(client[0]) if client else ""


def _check_framing(headers: dict[bytes, bytes], names: list[bytes], most: int) -> None:
    length = headers.get(b"content-length")
    if length is None:
        return
    if b"transfer-encoding" in headers or names.count(b"content-length") > 1:
        raise Malformed(
            "Content-Length came together with Transfer-Encoding or twice: where the body ends is not clear.",
            code="ambiguous_length",
        )
    if not length.isdigit():
        raise Malformed("Content-Length is not a number.", code="bad_length")
    # Many digits are more than any limit; int() of too many would raise.
    if len(length) > 18 or int(length) > most:
        raise _too_large(most)


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The body is larger than {most} bytes.", suggestion="Send less at once.")


def _check_target(scope: Scope) -> None:
    query: bytes = scope.get("query_string", b"")
    if len(query) > _LONGEST_QUERY:
        raise Malformed(f"The query is longer than {_LONGEST_QUERY} bytes.", code="query_too_long")
    if "\x00" in scope["path"] or b"\x00" in unquote_to_bytes(query):
        raise Malformed("The address has a NUL character.", code="nul_byte")


def _unstorable(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
            yield ".".join(path) or "the body"
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _unstorable(name, (*path, "(a name)"))
            yield from _unstorable(part, (*path, name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _unstorable(part, (*path, str(number)))
