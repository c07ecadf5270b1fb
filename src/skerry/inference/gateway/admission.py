"""May this request run, and what may it cost at most? Pure checks over the snapshot; each refusal names its reason."""

import json
import math
import time

from skerry.inference.gateway.errors import ApiError, bad_request
from skerry.inference.gateway.limits import Bucket
from skerry.inference.gateway.snapshot import KeyState, RouteState, Snapshot
from skerry.inference.gateway.wire import (
    NO_EFFECT,
    AssistantMessage,
    ChatRequest,
    CompletionRequest,
    FieldsUnset,
    Request,
    ToolMessage,
)

PROMPT_OVERHEAD = 64
"""Tokens a chat template may add to what the body's bytes explain, beside a few per message."""
MESSAGE_OVERHEAD = 16
nothing_without_effect = FieldsUnset(frozenset(NO_EFFECT))


def authenticate(snapshot: Snapshot, digest: bytes | None) -> KeyState:
    """The key behind an HMAC digest (None: no bearer token was sent). Raises ApiError 401 or 403."""
    if digest is None:
        message = "No API key was sent. Send it in the header 'Authorization: Bearer sk-…'."
        raise ApiError(401, message, code="missing_key")
    key = snapshot.keys.get(digest)
    if key is None:
        raise ApiError(401, "This API key is not known. Check it, or create a new one.", code="unknown_key")
    if key.revoked:
        raise ApiError(401, "This API key was revoked. Create a new one.", code="revoked_key")
    if key.expires <= time.time():
        raise ApiError(401, "This API key has expired. Create a new one.", code="expired_key")
    if not key.may_infer:
        raise ApiError(403, "This API key lacks the scope 'inference'.", code="missing_scope")
    return key


def find_route(snapshot: Snapshot, key: KeyState, model: str) -> RouteState:
    """Raises ApiError 404 with the models there are, 403 where the key is kept from this one."""
    route = snapshot.routes.get(model)
    if route is None or route.route.project not in (None, key.project):
        names = [
            name
            for name, state in snapshot.routes.items()
            if state.route.project in (None, key.project) and (key.models is None or name in key.models)
        ]
        there = f"Models you can call: {', '.join(sorted(names))}." if names else "No model is served yet."
        message = f"The model '{model[:128]}' does not exist. {there}"
        raise ApiError(404, message, code="model_not_found", param="model")
    if key.models is not None and model not in key.models:
        raise ApiError(403, f"This API key may not call the model '{model}'.", code="model_not_allowed", param="model")
    return route


def check_parameters(route: RouteState, request: Request) -> None:
    """Raises ApiError 400 that names the first parameter the engine does not have, or that contradicts another."""
    unset = route.unset[type(request)]
    if not unset(request):
        _drop_harmless(route, request, unset.set_ones(request))
    if request.stream_options is not None and not request.stream:
        message = "'stream_options' is only allowed when 'stream' is true."
        raise bad_request(message, param="stream_options", code="invalid_value")
    if isinstance(request, CompletionRequest):
        _check_prompt(route, request)
    elif "tools" not in route.route.profile.parameters:
        _check_no_tools(request)


def clean(request: Request) -> None:
    """Take out what has no effect here: the engine need not know it."""
    if not nothing_without_effect(request):
        for name in NO_EFFECT:
            setattr(request, name, None)


def ceiling_tokens(route: RouteState, request: Request, body_bytes: int) -> tuple[int, int]:
    """Upper bounds `(prompt, completion)` of the tokens this request can use (DESIGN §5). Raises ApiError 400.

    A token covers at least one byte of the body, so bytes plus what the template adds bound the prompt.
    """
    context = route.route.context_length
    asked = request.max_tokens
    field = "max_tokens"
    count = request.n or 1
    prompts = 1
    overhead = PROMPT_OVERHEAD
    if isinstance(request, ChatRequest):
        if request.max_completion_tokens is not None:
            asked, field = request.max_completion_tokens, "max_completion_tokens"
        overhead += MESSAGE_OVERHEAD * len(request.messages)
    else:
        prompts = _prompts(request)
        count = max(count, request.best_of or 1)
    if asked is not None and asked > context:
        message = f"'{field}' is {asked}, but the model's context holds {context} tokens. Ask for at most {context}."
        raise bad_request(message, param=field, code="context_length_exceeded")
    prompt = min(context * prompts, body_bytes + overhead)
    completion = min(asked, context) if asked is not None else context
    return prompt, completion * count * prompts


def check_rate(key: KeyState, now: float) -> None:
    """Take one request from the key's bucket. Raises ApiError 429 where it, or the tokens' bucket, is empty."""
    if key.requests.refill(now) < 1:
        raise _over(key, key.requests, "requests")
    if key.tokens.refill(now) < 1:
        raise _over(key, key.tokens, "tokens")
    key.requests.level -= 1


def rate_headers(key: KeyState) -> bytes:
    """OpenAI's rate-limit headers, as they stand after this request."""
    requests, tokens = key.requests, key.tokens
    return b"%bx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %dms\r\n" % (
        key.limit_headers,
        requests.level,
        (requests.limit - requests.level) * 60_000 / requests.limit,
    ) + b"x-ratelimit-remaining-tokens: %d\r\nx-ratelimit-reset-tokens: %dms\r\n" % (
        max(tokens.level, 0),
        (tokens.limit - tokens.level) * 60_000 / tokens.limit,
    )


def _over(key: KeyState, bucket: Bucket, what: str) -> ApiError:
    wait = max(1, math.ceil(bucket.wait_for(1)))
    message = f"This API key is over its limit of {bucket.limit} {what} a minute. Try again in {wait} s."
    return ApiError(429, message, code="rate_limit_exceeded", param=None, retry_after=wait, headers=rate_headers(key))


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


def _drop_harmless(route: RouteState, request: Request, names: list[str]) -> None:
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
