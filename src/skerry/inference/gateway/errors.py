"""OpenAI-shaped errors and their bytes."""

import orjson

REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    402: b"Payment Required",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    411: b"Length Required",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}

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
