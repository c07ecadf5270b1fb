"""May this request run, and what may it cost at most? Checks over the snapshot; each refusal names its reason."""

import json
import math
import time
from typing import Final

from skerry.inference.gateway.errors import ApiError, bad_request
from skerry.inference.gateway.fields import FieldsUnset
from skerry.inference.gateway.kinds import KINDS, Kind
from skerry.inference.gateway.limits import Allowance, Bucket
from skerry.inference.gateway.snapshot import Snapshot
from skerry.inference.gateway.state import KeyState, RouteState
from skerry.inference.gateway.wire import (
    NO_EFFECT,
    AnyRequest,
    AssistantMessage,
    ChatRequest,
    CompletionRequest,
    EmbeddingsRequest,
    Request,
    ToolMessage,
    inputs,
)

PROMPT_OVERHEAD: Final = 64
"""Tokens a chat template may add to what the body's bytes explain, beside a few per message."""
MESSAGE_OVERHEAD: Final = 16
nothing_without_effect: Final = FieldsUnset(frozenset(NO_EFFECT))
_SPECIAL: Final = frozenset({*NO_EFFECT, "response_format", "structured_outputs", "seed"})
_plain_text: Final = FieldsUnset(_SPECIAL)
_plain_chat: Final = FieldsUnset(_SPECIAL | {"tools", "top_logprobs"})


def authenticate(snapshot: Snapshot, digest: bytes | None) -> KeyState:
    """The key behind an HMAC digest (None: no bearer token was sent). Raises ApiError 401 or 403."""
    if digest is None:
        message = "No API key was sent. Send it in the header 'Authorization: Bearer sk-…'."
        raise ApiError(401, message, code="missing_key")
    key = snapshot.keys.get(digest)
    if key is None:
        raise ApiError(401, "This API key is not known. Check it, or create a new one.", code="unknown_key")
    check_key(key)
    return key


def check_key(key: KeyState) -> None:
    """Raises ApiError 401 or 403 for a key that may call nothing any more."""
    if key.revoked:
        raise ApiError(401, "This API key was revoked. Create a new one.", code="revoked_key")
    if key.expires <= time.time():
        raise ApiError(401, "This API key has expired. Create a new one.", code="expired_key")
    if not key.may_infer:
        raise ApiError(403, "This API key lacks the scope 'inference'.", code="missing_scope")


def find_route(snapshot: Snapshot, key: KeyState, model: str) -> RouteState:
    """Raises ApiError 404 with the models there are, 403 where the key is kept from this one."""
    route = snapshot.routes.get(model)
    if route is None or not (route.owner is None or route.owner == key.project):
        names = [
            name
            for name, state in snapshot.routes.items()
            if state.owner in (None, key.project) and (key.models is None or name in key.models)
        ]
        there = f"Models you can call: {', '.join(sorted(names))}." if names else "No model is served yet."
        message = f"The model '{model[:128]}' does not exist. {there}"
        raise ApiError(404, message, code="model_not_found", param="model")
    if key.models is not None and model not in key.models:
        raise ApiError(403, f"This API key may not call the model '{model}'.", code="model_not_allowed", param="model")
    return route


def check_parameters(route: RouteState, request: AnyRequest, kind: Kind) -> None:
    """Raises ApiError 400 that names the first parameter the engine does not have, or that contradicts another."""
    if not route.answers[kind.number]:
        others = " and ".join([known.path for known in KINDS if route.answers[known.number]])
        message = f"The model '{request.model}' does not answer {kind.path}; it answers {others}."
        raise bad_request(message, param="model", code="unsupported_task")
    unset = route.unset[type(request)]
    if not unset(request):
        _drop_harmless(route, request, unset.set_ones(request))
    if type(request) is EmbeddingsRequest:
        return
    if request.stream_options is not None and not request.stream:
        message = "'stream_options' is only allowed when 'stream' is true."
        raise bad_request(message, param="stream_options", code="invalid_value")
    if type(request) is CompletionRequest:
        _check_prompt(route, request)
    elif not route.tools:
        _check_no_tools(request)


def is_plain(request: Request) -> bool:
    """Whether nothing in it is to be translated or taken out: nearly all requests."""
    return _plain_chat(request) if type(request) is ChatRequest else _plain_text(request)


def clean(request: Request) -> None:
    """Take out what has no effect here: the engine need not know it."""
    if not nothing_without_effect(request):
        for name in NO_EFFECT:
            setattr(request, name, None)


def ceiling_tokens(route: RouteState, request: AnyRequest, body_bytes: int) -> tuple[int, int]:
    """Upper bounds `(prompt, completion)` of the tokens this request can use (DESIGN §5). Raises ApiError 400.

    A token covers at least one byte of the body, so bytes plus what the template adds bound the prompt.
    """
    context = route.context
    if type(request) is EmbeddingsRequest:
        texts = inputs(request)
        return min(context * texts, body_bytes + PROMPT_OVERHEAD + MESSAGE_OVERHEAD * texts), 0
    asked: int | None = request.max_tokens
    field = "max_tokens"
    count: int = request.n or 1
    prompts = 1
    overhead = PROMPT_OVERHEAD
    if type(request) is ChatRequest:
        if request.max_completion_tokens is not None:
            asked = request.max_completion_tokens
            field = "max_completion_tokens"
        overhead += MESSAGE_OVERHEAD * len(request.messages)
    else:
        prompts = _prompts(request)
        count = max(count, request.best_of or 1)
    completion = context
    if asked is not None:
        if asked > context:
            message = (
                f"'{field}' is {asked}, but the model's context holds {context} tokens. Ask for at most {context}."
            )
            raise bad_request(message, param=field, code="context_length_exceeded")
        completion = asked
    return min(context * prompts, body_bytes + overhead), completion * count * prompts


def take_rate(key: KeyState, now: float) -> None:
    """Count the request against the key, its project and its organization; `release_rate` when it has ended.

    Raises ApiError 429 where one of them has no request, token or place left; then nothing was counted.
    """
    allowances = key.allowances
    for allowance in allowances:
        if allowance.requests.refill(now) < 1:
            raise _over(key, allowance.whose, allowance.requests, "requests")
        if allowance.tokens.refill(now) < 1:
            raise _over(key, allowance.whose, allowance.tokens, "tokens")
        if 0 < allowance.concurrent <= allowance.active:
            raise _too_many(key, allowance)
    for allowance in allowances:
        allowance.requests.level -= 1
        allowance.active += 1


def release_rate(key: KeyState) -> None:
    for allowance in key.allowances:
        if allowance.active > 0:
            allowance.active -= 1


def take_tokens(key: KeyState, tokens: int) -> None:
    """What an answer has used is used, by all who share it."""
    for allowance in key.allowances:
        allowance.tokens.level -= tokens


def rate_headers(key: KeyState) -> str:
    """OpenAI's rate-limit headers, as they stand after this request: of whichever limit is nearest."""
    allowances = key.allowances
    first = allowances[0]
    requests = first.requests
    tokens = first.tokens
    if len(allowances) > 1:
        requests = min([each.requests for each in allowances], key=_level)
        tokens = min([each.tokens for each in allowances], key=_level)
    return (
        f"x-ratelimit-limit-requests: {requests.limit}\r\n"
        f"x-ratelimit-limit-tokens: {tokens.limit}\r\n"
        f"x-ratelimit-remaining-requests: {max(int(requests.level), 0)}\r\n"
        f"x-ratelimit-reset-requests: {_reset_ms(requests)}ms\r\n"
        f"x-ratelimit-remaining-tokens: {max(int(tokens.level), 0)}\r\n"
        f"x-ratelimit-reset-tokens: {_reset_ms(tokens)}ms\r\n"
    )


def _level(bucket: Bucket) -> float:
    return bucket.level


def _reset_ms(bucket: Bucket) -> int:
    return int((bucket.limit - bucket.level) * 60_000.0 / bucket.limit) if bucket.limit else 0


def _over(key: KeyState, whose: str, bucket: Bucket, what: str) -> ApiError:
    wait = min(3600, max(1, math.ceil(min(bucket.wait_for(1), 3600.0))))
    message = f"This {whose} is over its limit of {bucket.limit} {what} a minute. Try again in {wait} s."
    headers = rate_headers(key).encode()
    return ApiError(429, message, code="rate_limit_exceeded", param=None, retry_after=wait, headers=headers)


def _too_many(key: KeyState, allowance: Allowance) -> ApiError:
    message = (
        f"This {allowance.whose} has {allowance.active} requests under way, which is its limit. "
        "Try again when one of them has ended."
    )
    headers = rate_headers(key).encode()
    return ApiError(429, message, code="too_many_concurrent_requests", retry_after=1, headers=headers)


def _prompts(request: CompletionRequest) -> int:
    prompt = request.prompt
    return len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1


def _check_no_tools(request: ChatRequest) -> None:
    """A conversation with tool calls is nothing for a model whose template knows none."""
    for index, message in enumerate(request.messages):
        if isinstance(message, ToolMessage) or (isinstance(message, AssistantMessage) and message.tool_calls):
            field = "role" if isinstance(message, ToolMessage) else "tool_calls"
            text = f"The model '{request.model}' does not support tools."
            raise bad_request(text, param=f"messages.{index}.{field}", code="unsupported_parameter")


def _drop_harmless(route: RouteState, request: AnyRequest, names: list[str]) -> None:
    """Leave out what asks for nothing special; refuse the rest."""
    harmless = route.route.profile.accepts
    for name in names:
        value = getattr(request, name)
        # `1 == True` in Python, not in JSON.
        if not any(value == accepted and type(value) is type(accepted) for accepted in harmless.get(name, ())):
            message = f"The parameter '{name}' is not supported by the model '{request.model}'."
            if name in harmless:
                allowed = " or ".join(json.dumps(accepted) for accepted in harmless[name])
                message = f"For the model '{request.model}', '{name}' can only be {allowed}."
            raise bad_request(message, param=name, code="unsupported_parameter")
        setattr(request, name, None)


def _check_prompt(route: RouteState, request: CompletionRequest) -> None:
    prompt = request.prompt
    if prompt == "" or prompt == []:
        raise bad_request("'prompt' is missing or empty.", param="prompt", code="missing_required_parameter")
    if isinstance(prompt, list) and len({type(part) for part in prompt}) > 1:
        message = "'prompt' is a text, a list of texts, a list of token ids, or a list of such lists; not a mixture."
        raise bad_request(message, param="prompt", code="invalid_value")
    if not route.route.profile.many_prompts and _prompts(request) > 1:
        message = f"The model '{request.model}' takes one prompt a request."
        raise bad_request(message, param="prompt", code="unsupported_parameter")
