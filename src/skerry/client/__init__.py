"""Skerry's HTTP client, blocking and asynchronous."""

from skerry.client.asynchronous import AsyncChatStream, AsyncSkerry
from skerry.client.blocking import ChatStream, Skerry
from skerry.client.chat import ChatDelta, ChatSummary
from skerry.client.config import Connection, Credentials
from skerry.client.errors import (
    ApiError,
    BadAnswer,
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    Malformed,
    MissingKey,
    NoCapacity,
    NotConfigured,
    NotFound,
    NotReachable,
    PaymentRequired,
    RateLimited,
    SkerryError,
    StreamBroken,
    TookTooLong,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from skerry.client.retry import Retries
from skerry.client.streams import AsyncByteStream, ByteStream

__all__ = [
    "ApiError",
    "AsyncByteStream",
    "AsyncChatStream",
    "AsyncSkerry",
    "BadAnswer",
    "ByteStream",
    "ChatDelta",
    "ChatStream",
    "ChatSummary",
    "Conflict",
    "Connection",
    "Credentials",
    "FieldError",
    "Forbidden",
    "Invalid",
    "Malformed",
    "MissingKey",
    "NoCapacity",
    "NotConfigured",
    "NotFound",
    "NotReachable",
    "PaymentRequired",
    "RateLimited",
    "Retries",
    "Skerry",
    "SkerryError",
    "StreamBroken",
    "TooLarge",
    "TookTooLong",
    "Unauthorized",
    "Unavailable",
]
