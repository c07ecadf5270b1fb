"""The blocking client."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import httpx

from skerry.client.call import Call, Page
from skerry.client.chat import Assembler, ChatDelta, ChatSummary, Message, chat_body
from skerry.client.errors import NotReachable, StreamBroken, Unavailable
from skerry.client.groups import Blocking, Resources
from skerry.client.retry import Retries
from skerry.client.transport import DEFAULT_TIMEOUT, TROUBLE, build, build_chat, cut_off, settings, unreachable
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
        retries: Retries | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(self)
        self.url = url.rstrip("/")
        self._project = project
        self._retries = retries or Retries()
        self._sleep = sleep
        self._http = httpx.Client(transport=transport, **settings(self.url, api_key, timeout, ca_cert))

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
            response = self._open(build(self._http, call, self._project))
            return read_answer(call, response.status_code, response.headers, self._content(response))

        return self._try(once, replayable=call.replayable)

    def pages(self, call: Call[Page[T]]) -> Iterator[T]:
        """All items, fetched page by page as they are asked for."""
        page = self.send(call)
        yield from page.data
        while page.next_cursor is not None:
            page = self.send(call.with_query(after=page.next_cursor))
            yield from page.data

    def chat(self, model: str, messages: Sequence[Message], **options: Any) -> "ChatStream":
        """Ask, and iterate over the answer: ChatDelta after ChatDelta, then one ChatSummary.

        `options` are those of the API: max_tokens, temperature, top_p, stop, seed, tools …
        """
        started = time.perf_counter()
        response = self._open_stream(chat_body(model, messages, options))
        return ChatStream(response, Assembler(model, response.headers, started))

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
