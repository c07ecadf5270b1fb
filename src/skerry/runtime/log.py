"""Structured logs: one JSON object a line on stderr, with the request's id, never with a secret or a prompt."""

import logging
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TextIO

import structlog

REDACTED: Final = "[redacted]"

# A token of ours has 48 characters; anything that begins like one is treated as one, other vendors' too.
_TOKEN = re.compile(r"\bsk-[A-Za-z0-9_-]{6,}")
_AUTHORIZATION = re.compile(
    r"""(?ix) (?: authorization["']?\s*[:=]\s*["']? (?:bearer|basic)? | \bbearer ) \s+ [^\s"',;}]+
        | authorization["']?\s*[:=]\s*["']? [^\s"',;}]+"""
)
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s:/@]+):[^\s/@]+@")
_PRIVATE_FIELDS: Final = frozenset(
    {
        "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api_key", "secret", "password",
        "prompt", "messages", "content", "completion", "input",
    }
)  # fmt: skip

request_id: ContextVar[str | None] = ContextVar("skerry_request_id", default=None)


@contextmanager
def bound_request_id(value: str) -> Iterator[None]:
    """All log lines inside carry this `request_id`, in this task and those it starts."""
    token = request_id.set(value)
    try:
        yield
    finally:
        request_id.reset(token)


def configure(role: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging for this process. Raises ValueError for an unknown level."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level {level!r}: use debug, info, warning or error")
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        _add_role(role),
        redact,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,  # once more: `%`-style messages of libraries are put together only now
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take tokens and credentials out of all values, however deep, and drop what may hold a customer's words."""
    for key, value in event.items():
        if not key.startswith("_"):
            event[key] = _clean(key, value)
    return event


def redact_text(text: str) -> str:
    text = _AUTHORIZATION.sub(f"authorization: {REDACTED}", text)
    text = _PASSWORD_IN_URL.sub(rf"\1:{REDACTED}@", text)
    return _TOKEN.sub(f"sk-{REDACTED}", text)


def _clean(key: str, value: Any) -> Any:
    match value:
        case bool() | int() | float() | None:
            return value
        case _ if key.lower() in _PRIVATE_FIELDS:
            return REDACTED
        case str():
            return redact_text(value)
        case bytes():
            return redact_text(value.decode(errors="replace"))
        case Mapping():
            return {str(k): _clean(str(k), v) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean("", item) for item in value]
        case _:
            return redact_text(str(value))


def _add_request_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if (value := request_id.get()) is not None:
        event.setdefault("request_id", value)
    return event


def _add_role(role: str) -> structlog.types.Processor:
    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("role", role)
        return event

    return add
