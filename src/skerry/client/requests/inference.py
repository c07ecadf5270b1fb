"""Requests about models. The chat itself is in `chat.py`."""

from collections.abc import Mapping
from typing import Any

from skerry.client.answers.base import reader
from skerry.client.answers.inference import CallableModel, Model
from skerry.client.call import CONTROL, Call, Page, at, create, delete, get, listing, present

MODELS = f"{CONTROL}/models"


def list_models(*, limit: int | None = None) -> Call[Page[Model]]:
    """The catalogue."""
    return listing(MODELS, reader(Model), limit=limit)


def list_callable_models() -> Call[Page[CallableModel]]:
    """What this key may call on `/v1`."""
    return listing("/v1/models", reader(CallableModel))


def get_model(name: str) -> Call[Model]:
    return get(at(MODELS, name), reader(Model))


def add_model(
    name: str,
    *,
    source: Mapping[str, Any],
    engine: str | None = None,
    context_length: int | None = None,
    license: str | None = None,
    price: Mapping[str, str] | None = None,
) -> Call[Model]:
    """`source` has one of path, hub, upstream (with upstream_key?) and upstreams ([{url, key?, weight?}]); both of the
    latter with upstream_model?. `price` is per million tokens."""
    body = {
        "name": name,
        "engine": engine,
        "source": present(source),
        "context_length": context_length,
        "license": license,
        "price": price or None,
    }
    return create(MODELS, reader(Model), body)


def remove_model(name: str) -> Call[None]:
    return delete(at(MODELS, name))
