"""The asynchronous client: the same as the blocking one, awaited."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import httpx

from skerry.client.call import Call, Page
from skerry.client.chat import Assembler, ChatDelta, ChatSummary, Message, chat_body, whole_answer
from skerry.client.errors import NotReachable, StreamBroken, TookTooLong, Unavailable
from skerry.client.groups import Asynchronous, Resources
from skerry.client.retry import Retries
from skerry.client.streams import AsyncByteStream
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


class AsyncSkerry(Resources[Asynchronous]):
    """A Skerry at `url`, for asyncio. Use it in an `async with` block, or `await close()` it. See `Skerry`."""

    def __init__(
        self,
        url: str,
        api_key: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        project: str | None = None,
        ca_cert: str | ssl.SSLContext | None = None,
        connections: int = CONNECTIONS,
        retries: Retries | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(self)
        self.url = url.rstrip("/")
        self._project = project
        self._retries = retries or Retries()
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            transport=transport, **settings(self.url, api_key, timeout, ca_cert, connections)
        )

    async def __aenter__(self) -> "AsyncSkerry":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """The answer to one request, after as many tries as `Retries` allows."""

        async def once() -> T:
            with built(self._http, call, self._project) as request:
                response = await self._open(request)
            return read_answer(call, response.status_code, response.headers, await self._content(response))

        return await self._try(once, replayable=call.replayable)

    async def pages(self, call: Call[Page[T]]) -> AsyncIterator[T]:
        """All items, fetched page by page as they are asked for."""
        page = await self.send(call)
        for item in page.data:
            yield item
        while page.next_cursor is not None:
            page = await self.send(call.with_query(after=page.next_cursor))
            for item in page.data:
                yield item

    async def stream(self, call: Call[None]) -> AsyncByteStream:
        """The bytes of an answer, as they come."""

        async def once() -> httpx.Response:
            with built(self._http, call, self._project) as request:
                response = await self._open(request)
            if not 200 <= response.status_code < 300:
                raise error_of(response.status_code, response.headers, await self._content(response))
            return response

        return AsyncByteStream(await self._try(once, replayable=call.replayable))

    async def wait(
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
            found = await self.send(call)
            if progress is not None:
                progress(found)
            if done(found):
                return found
            if deadline is not None and time.monotonic() >= deadline:
                raise TookTooLong(f"It was not done after {timeout:g} s.", suggestion="It goes on: wait again.")
            await self._sleep(poll)

    async def chat(self, model: str, messages: Sequence[Message], **options: Any) -> "AsyncChatStream":
        """Ask, and iterate over what comes: `async for part in await client.chat(…)`. See `Skerry.chat`."""
        started = time.perf_counter()
        response = await self._open_stream(chat_body(model, messages, options))
        return AsyncChatStream(response, Assembler(model, response.headers, started))

    async def ask(self, model: str, messages: Sequence[Message], **options: Any) -> ChatSummary:
        """Ask, and get the answer in one piece."""
        started = time.perf_counter()
        response = await self._open_stream(chat_body(model, messages, options, stream=False))
        content = await self._content(response)
        return whole_answer(response.headers, content, time.perf_counter() - started)

    async def _open_stream(self, body: Mapping[str, Any]) -> httpx.Response:
        async def once() -> httpx.Response:
            response = await self._open(build_chat(self._http, body))
            if response.status_code != httpx.codes.OK:
                raise error_of(response.status_code, response.headers, await self._content(response))
            return response

        return await self._try(once, replayable=False)

    async def _try(self, once: Callable[[], Awaitable[T]], *, replayable: bool) -> T:
        tried = 0
        while True:
            tried += 1
            try:
                return await once()
            except (NotReachable, Unavailable) as error:
                wait = self._retries.wait(tried, error, replayable=replayable)
                if wait is None:
                    raise
            await self._sleep(wait)

    async def _open(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._http.send(request, stream=True)
        except TROUBLE as error:
            raise unreachable(error, self.url) from error

    async def _content(self, response: httpx.Response) -> bytes:
        try:
            return await response.aread()
        except TROUBLE as error:
            raise unreachable(error, self.url) from error
        finally:
            await response.aclose()


class AsyncChatStream:
    """One answer on its way. Leaving it early (`close`, or the end of the block) tells the server to stop."""

    def __init__(self, response: httpx.Response, assembler: Assembler) -> None:
        self._response = response
        self._assembler = assembler

    async def __aenter__(self) -> "AsyncChatStream":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._response.aclose()

    async def __aiter__(self) -> AsyncIterator[ChatDelta | ChatSummary]:
        try:
            async for piece in self._response.aiter_bytes():
                for delta in self._assembler.feed(piece, time.perf_counter()):
                    yield delta
        except TROUBLE as error:
            raise cut_off(error) from error
        finally:
            await self._response.aclose()
        yield self._assembler.summary(time.perf_counter())

    async def result(self) -> ChatSummary:
        """Waits for the end and gives the summary, which has the whole text."""
        async for part in self:
            if isinstance(part, ChatSummary):
                return part
        raise StreamBroken("The answer was read already.")
