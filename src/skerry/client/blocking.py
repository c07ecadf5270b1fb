"""The blocking client."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import httpx

from skerry.client.call import Call, Page
from skerry.client.chat import Assembler, ChatDelta, ChatSummary, Message, chat_body, whole_answer
from skerry.client.errors import NotReachable, StreamBroken, TookTooLong, Unavailable
from skerry.client.groups import Blocking, Resources
from skerry.client.retry import Retries
from skerry.client.streams import ByteStream
from skerry.client.transport import (
    CONNECTIONS,
    DEFAULT_TIMEOUT,
    TROUBLE,
    build_chat,
    built,
    cut_off,
    settings,
    unreachable,
)
from skerry.client.wire import error_of, read_answer

T = TypeVar("T")


class Skerry(Resources[Blocking]):
    """A Skerry at `url`. Use it in a `with` block, or `close()` it. One thread at a time.

    `project` is where an operator's key acts (name, id, or organization/name); other keys have their own.
    `timeout` is the longest silence in seconds, not the length of an answer. `ca_cert` is a file of certificates (PEM)
    to trust beside the system's own.
    """

    def __init__(
        self,
        url: str,
        api_key: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
        *,
        project: str | None = None,
        ca_cert: str | None = None,
        connections: int = CONNECTIONS,
        retries: Retries | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(self)
        self.url = url.rstrip("/")
        self._project = project
        self._retries = retries or Retries()
        self._sleep = sleep
        options = settings(self.url, api_key, timeout, ca_cert, connections)
        self._http = httpx.Client(transport=transport, **options)

    def __enter__(self) -> "Skerry":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """The answer to one request, after as many tries as `Retries` allows."""

        def once() -> T:
            with built(self._http, call, self._project) as request:
                response = self._open(request)
            return read_answer(call, response.status_code, response.headers, self._content(response))

        return self._try(once, replayable=call.replayable)

    def pages(self, call: Call[Page[T]]) -> Iterator[T]:
        """All items, fetched page by page as they are asked for."""
        page = self.send(call)
        yield from page.data
        while page.next_cursor is not None:
            page = self.send(call.with_query(after=page.next_cursor))
            yield from page.data

    def stream(self, call: Call[None]) -> ByteStream:
        """The bytes of an answer, as they come."""

        def once() -> httpx.Response:
            with built(self._http, call, self._project) as request:
                response = self._open(request)
            if not 200 <= response.status_code < 300:
                raise error_of(response.status_code, response.headers, self._content(response))
            return response

        return ByteStream(self._try(once, replayable=call.replayable))

    def wait(
        self,
        call: Call[T],
        done: Callable[[T], bool],
        *,
        timeout: float | None = None,
        poll: float = 1.0,
        progress: Callable[[T], None] | None = None,
    ) -> T:
        """Ask again and again until it is done; `progress` sees each answer. Raises TookTooLong. Times in seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            found = self.send(call)
            if progress is not None:
                progress(found)
            if done(found):
                return found
            if deadline is not None and time.monotonic() >= deadline:
                raise TookTooLong(f"It was not done after {timeout:g} s.", suggestion="It goes on: wait again.")
            self._sleep(poll)

    def chat(self, model: str, messages: Sequence[Message], **options: Any) -> "ChatStream":
        """Ask, and iterate over the answer: ChatDelta after ChatDelta, then one ChatSummary.

        `options` are those of the API: max_tokens, temperature, top_p, stop, seed, tools …
        """
        started = time.perf_counter()
        response = self._open_stream(chat_body(model, messages, options))
        return ChatStream(response, Assembler(model, response.headers, started))

    def ask(self, model: str, messages: Sequence[Message], **options: Any) -> ChatSummary:
        """Ask, and get the answer in one piece."""
        started = time.perf_counter()
        response = self._open_stream(chat_body(model, messages, options, stream=False))
        content = self._content(response)
        return whole_answer(response.headers, content, time.perf_counter() - started)

    def _open_stream(self, body: Mapping[str, Any]) -> httpx.Response:
        """The open answer of a chat. Only a failure to connect is tried again: a chat that was sent costs money."""

        def once() -> httpx.Response:
            response = self._open(build_chat(self._http, body))
            if response.status_code != httpx.codes.OK:
                raise error_of(response.status_code, response.headers, self._content(response))
            return response

        return self._try(once, replayable=False)

    def _try(self, once: Callable[[], T], *, replayable: bool) -> T:
        tried = 0
        while True:
            tried += 1
            try:
                return once()
            except (NotReachable, Unavailable) as error:
                wait = self._retries.wait(tried, error, replayable=replayable)
                if wait is None:
                    raise
            self._sleep(wait)

    def _open(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._http.send(request, stream=True)
        except TROUBLE as error:
            raise unreachable(error, self.url) from error

    def _content(self, response: httpx.Response) -> bytes:
        try:
            return response.read()
        except TROUBLE as error:
            raise unreachable(error, self.url) from error
        finally:
            response.close()


class ChatStream:
    """One answer on its way. Leaving it early (`close`, or the end of the block) tells the server to stop."""

    def __init__(self, response: httpx.Response, assembler: Assembler) -> None:
        self._response = response
        self._assembler = assembler

    def __enter__(self) -> "ChatStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()

    def __iter__(self) -> Iterator[ChatDelta | ChatSummary]:
        try:
            for piece in self._response.iter_bytes():
                yield from self._assembler.feed(piece, time.perf_counter())
        except TROUBLE as error:
            raise cut_off(error) from error
        finally:
            self._response.close()
        yield self._assembler.summary(time.perf_counter())

    def result(self) -> ChatSummary:
        """Waits for the end and gives the summary, which has the whole text."""
        for part in self:
            if isinstance(part, ChatSummary):
                return part
        raise StreamBroken("The answer was read already.")
