"""OpenAI-shaped errors and their bytes."""

from http import HTTPStatus

import orjson

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}

KINDS = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}


class ApiError(Exception):
    """An answer other than 200. `retry_after` is whole seconds; `close` ends the connection after it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after: int | None = None,
        close: bool = False,
        headers: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.close = close
        self.headers = headers

    def payload(self) -> dict[str, object]:
        kind = KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        return orjson.dumps(self.payload())

    def problem(self) -> bytes:
        """The same as problem+json, for the control API's paths."""
        title = REASONS.get(self.status, b"Error").decode()
        problem = {"type": "about:blank", "title": title, "status": self.status, "code": self.code}
        return orjson.dumps({**problem, "detail": self.message, "suggestion": "", "errors": []})

    def event(self) -> bytes:
        """The same as the last event of a stream that cannot go on."""
        return b"data: " + self.body() + b"\n\n"


class Denied(Exception):
    """The balance does not cover the request; `window` says when there will be more (day, month, total)."""

    def __init__(self, remaining: int, limit: int, kind: str, window: str) -> None:
        super().__init__("the balance is exhausted")
        self.remaining, self.limit, self.kind, self.window = remaining, limit, kind, window


def bad_request(message: str, *, code: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, code=code, param=param)


def unavailable(message: str, *, code: str, retry_after: int = 1) -> ApiError:
    return ApiError(503, message, code=code, retry_after=retry_after)
