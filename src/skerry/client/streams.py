"""Answers that are bytes rather than JSON: the content of files, logs."""

from collections.abc import AsyncIterator, Iterator
from types import TracebackType

import httpx

from skerry.client.transport import TROUBLE, content_length, cut_off


class ByteStream:
    """Bytes on their way: iterate over them, or `read()` them all. Leaving early ends it."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def __enter__(self) -> "ByteStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def size(self) -> int | None:
        """How many there will be, where that is known."""
        return content_length(self._response)

    def close(self) -> None:
        self._response.close()

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._response.iter_bytes()
        except TROUBLE as error:
            raise cut_off(error) from error
        finally:
            self._response.close()

    def read(self) -> bytes:
        return b"".join(self)


class AsyncByteStream:
    """Bytes on their way: iterate over them, or `read()` them all. Leaving early ends it."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def __aenter__(self) -> "AsyncByteStream":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def size(self) -> int | None:
        """How many there will be, where that is known."""
        return content_length(self._response)

    async def close(self) -> None:
        await self._response.aclose()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.aiter_bytes():
                yield piece
        except TROUBLE as error:
            raise cut_off(error) from error
        finally:
            await self._response.aclose()

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self])
