"""What may be in the catalogue. Pure."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from skerry.artifacts.errors import (
    BadContext,
    BadModelName,
    BadSource,
    EngineUnsupported,
    OperatorOnly,
)
from skerry.artifacts.model import (
    FINE_TUNED_PREFIX,
    EngineKind,
    ModelFacts,
    ModelSource,
    NewModel,
    SourceKind,
    Upstream,
)
from skerry.kernel.errors import FieldError

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9][A-Za-z0-9._:-]*)*")
MAX_NAME: Final = 128
MAX_UPSTREAMS: Final = 16
MAX_WEIGHT: Final = 1000
MAX_CONTEXT: Final = 16_777_216
UPSTREAM_CONTEXT: Final = 32_768
"""Assumed of an upstream whose context length was not given; it bounds what a request may reserve of a budget."""
FILE_CONTEXT: Final = 4_096
"""Assumed of weights that do not say."""
EMBEDDING_CONTEXT: Final = 8_192
"""Given to models that make vectors at most: a whole text is worked on at once, and the memory grows with it."""
_KEY: Final = re.compile(r"[\x21-\x7e]{1,4096}")
_HOST: Final = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_ROUTES: Final = ("/chat/completions", "/completions", "/embeddings", "/models")


def check_name(name: str) -> str:
    """The name itself. Raises BadModelName."""
    if len(name) > MAX_NAME or not NAME.fullmatch(name) or name.endswith("/events"):
        words = f"a model's name is up to {MAX_NAME} letters, digits and . _ : - in parts joined by /"
        raise BadModelName(words, errors=[FieldError("name", "bad_model_name", words)])
    if name.lower().startswith(FINE_TUNED_PREFIX):
        words = f"names that begin with {FINE_TUNED_PREFIX} are given to fine-tuned models"
        raise BadModelName(words, suggestion="Choose another name.", errors=[FieldError("name", "reserved", words)])
    return name


def check_source(source: ModelSource, *, operator: bool) -> None:
    """Raises OperatorOnly."""
    if not operator:
        raise OperatorOnly(
            f"adding a model by {source.kind} needs a key with the scope operator",
            suggestion="Ask the operator of this cloud to add it.",
        )


def choose_engine(
    wanted: EngineKind | None, fits: EngineKind, launchable: Collection[EngineKind] = frozenset(EngineKind)
) -> EngineKind:
    """The engine that serves what the source has. Raises EngineUnsupported. `launchable`: what this cloud has."""
    if wanted is not None and wanted is not fits:
        words = f"the engine {wanted} cannot serve this source; {fits} can"
        raise EngineUnsupported(words, errors=[FieldError("engine", "engine_unsupported", words)])
    if fits not in launchable:
        raise EngineUnsupported(
            f"these weights need the engine {fits}, which this cloud does not have",
            suggestion="Set SKERRY_VLLM_PYTHON to a Python that has vLLM, on a machine with GPUs, and start again; or "
            "convert the model to GGUF; or run vLLM yourself and add it with `source.upstream`.",
            errors=[FieldError("engine", "engine_unsupported", f"{fits} cannot be launched here")],
        )
    return fits


def context_length(wanted: int | None, facts: ModelFacts, kind: SourceKind) -> int:
    """Tokens of prompt and answer together. Raises BadContext for more than the model was trained for."""
    if kind is SourceKind.UPSTREAM:
        return _bounded(wanted, MAX_CONTEXT) or UPSTREAM_CONTEXT
    trained = facts.trained_context or FILE_CONTEXT
    limit = facts.trained_context or MAX_CONTEXT
    return _bounded(wanted, limit) or min(trained, EMBEDDING_CONTEXT if facts.embeds else MAX_CONTEXT)


def normal_upstream(url: str) -> str:
    """The base URL that ends before `/chat/completions`: with `/v1` where no path is given. Raises BadSource."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise _bad_upstream("it has characters that a URL does not have")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _bad_upstream(str(error)) from error
    if parts.scheme not in ("http", "https"):
        raise _bad_upstream("it must begin with http:// or https://")
    if not _HOST.fullmatch(host):
        raise _bad_upstream("it names no host")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise _bad_upstream("a user or password in it would be shown to others: use upstream_key")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise _bad_upstream("it must not have a query or a fragment")
    if port == 0:
        raise _bad_upstream("port 0 cannot be connected to")
    authority = f"[{host}]" if ":" in host else host
    if port is not None:
        authority = f"{authority}:{port}"
    return urlunsplit((parts.scheme, authority, _base_path(parts.path), "", ""))


def check_upstreams(upstreams: Sequence[Upstream]) -> tuple[Upstream, ...]:
    """In their normal form. Raises BadSource."""
    if len(upstreams) > MAX_UPSTREAMS:
        raise _bad_upstreams(f"a model has at most {MAX_UPSTREAMS} upstreams")
    if not any(upstream.weight for upstream in upstreams):
        raise _bad_upstreams("at least one upstream needs a weight above 0")
    normal = tuple(replace(upstream, url=normal_upstream(upstream.url)) for upstream in upstreams)
    for index, upstream in enumerate(normal):
        if not 0 <= upstream.weight <= MAX_WEIGHT:
            raise _bad_upstreams(f"the weight of upstream {index} is not between 0 and {MAX_WEIGHT}")
    return normal


def with_keys(source: ModelSource, new: NewModel) -> tuple[ModelSource, tuple[str | None, ...]]:
    """The source that says which of its upstreams have keys, and those keys. Raises BadSource."""
    for key in (new.upstream_key, *new.upstream_keys):
        if key is not None:
            check_upstream_key(key)
    if not source.upstreams:
        return replace(source, has_key=new.upstream_key is not None), (new.upstream_key,)
    keys = tuple(new.upstream_keys[: len(source.upstreams)])
    keys += (None,) * (len(source.upstreams) - len(keys))
    marked = tuple(
        replace(upstream, has_key=key is not None) for upstream, key in zip(source.upstreams, keys, strict=True)
    )
    return replace(source, has_key=marked[0].has_key, upstreams=marked), keys


def check_upstream_key(key: str) -> str:
    """The key itself. Raises BadSource for what cannot stand in a header."""
    if not _KEY.fullmatch(key):
        words = "upstream_key has characters that a header cannot carry, or is too long"
        raise BadSource(words, code="bad_upstream_key", errors=[FieldError("source.upstream_key", "bad_key", words)])
    return key


def _base_path(path: str) -> str:
    path = path.rstrip("/")
    for route in _ROUTES:
        if path.endswith(route):
            path = path.removesuffix(route)
            break
    return path or "/v1"


def _bounded(wanted: int | None, limit: int) -> int | None:
    if wanted is None or 1 <= wanted <= limit:
        return wanted
    words = f"context_length must be between 1 and {limit}, which is what the model can take"
    raise BadContext(words, errors=[FieldError("context_length", "out_of_range", words)])


def _bad_upstreams(words: str) -> BadSource:
    return BadSource(words, code="bad_upstream", errors=[FieldError("source.upstreams", "bad_upstream", words)])


def _bad_upstream(why: str) -> BadSource:
    words = f"the upstream is not a usable URL: {why}"
    return BadSource(words, code="bad_upstream", errors=[FieldError("source.upstream", "bad_upstream", words)])
