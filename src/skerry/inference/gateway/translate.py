"""What an engine knows by another name is said in its words; what it would silently ignore is refused by name.

`translate` is called once for each request, after `admission.check_parameters`. For nearly all requests it is one
comparison.
"""

import re
from typing import Any, Final

import msgspec

from skerry.inference.engines.base import EngineProfile, Structure
from skerry.inference.gateway.errors import ApiError, bad_request
from skerry.inference.gateway.fields import FieldsUnset
from skerry.inference.gateway.regex_grammar import Unsupported, grammar_of, literal
from skerry.inference.gateway.schema_check import MAX_DEPTH, Unusable, check
from skerry.inference.gateway.wire import (
    ChatRequest,
    CompletionRequest,
    Request,
    ResponseFormat,
    StructuredOutputs,
)

MAX_GRAMMAR: Final = 64 * 1024
"""Bytes of a grammar, and of a schema's text."""
SEEDS: Final = 2**32 - 1
MAX_REPEATS: Final = 2_000
"""What llama.cpp takes."""

_KINDS: Final = ("json", "regex", "choice", "grammar")
_BRACKET: Final = re.compile(r'"(?:\\.|[^"\\\n])*"|\[(?:\\.|[^\]\\\n])*\]|#[^\n]*|[()]')
_nothing_in_chat: Final = FieldsUnset(frozenset({"response_format", "structured_outputs", "top_logprobs", "tools"}))
_nothing_in_text: Final = FieldsUnset(frozenset({"response_format", "structured_outputs"}))


def translate(request: Request, profile: EngineProfile) -> dict[str, Any]:
    """Fields for the engine's body beside those of `request`, from which what was translated is taken out.

    Raises ApiError 400 that names the parameter.
    """
    if request.seed is not None:
        _check_seed(request, profile)
    nothing = _nothing_in_chat if isinstance(request, ChatRequest) else _nothing_in_text
    if nothing(request):
        return {}
    if isinstance(request, ChatRequest):
        _check_chat(request, profile)
    return _structure(request, profile)


def _check_seed(request: Request, profile: EngineProfile) -> None:
    """The same seed gives the same answer, or is refused."""
    if not profile.can.seed_safe:
        message = f"The parameter 'seed' is not supported by the model '{request.model}'."
        raise bad_request(message, param="seed", code="unsupported_parameter")
    if profile.structure is Structure.LLAMACPP and request.seed is not None:
        request.seed %= SEEDS  # it keeps 32 bits, of which the last number stands for a random one


def _check_chat(request: ChatRequest, profile: EngineProfile) -> None:
    if request.top_logprobs is not None and not request.logprobs:
        message = "'top_logprobs' is only allowed when 'logprobs' is true."
        raise bad_request(message, param="top_logprobs", code="invalid_value")
    if profile.structure is Structure.LLAMACPP:
        for index, tool in enumerate(request.tools or ()):
            if tool.function.parameters:
                _check_schema(tool.function.parameters, f"tools.{index}.function.parameters")


def _structure(request: Request, profile: EngineProfile) -> dict[str, Any]:
    schema = _wanted_schema(request.response_format)
    wanted = request.structured_outputs
    if wanted is None:
        return _response_format(request, profile, schema)
    kind = _kind(wanted)
    if schema is not None:
        message = "Give either 'response_format' or 'structured_outputs', not both."
        raise bad_request(message, param="structured_outputs", code="invalid_value")
    if isinstance(request, ChatRequest) and request.tools:
        message = "'structured_outputs' cannot be combined with 'tools'."
        raise bad_request(message, param="structured_outputs", code="unsupported_parameter")
    if profile.structure is Structure.VLLM:
        return {}
    if profile.structure is Structure.NONE:
        message = f"The model '{request.model}' takes 'response_format', not 'structured_outputs'."
        raise bad_request(message, param="structured_outputs", code="unsupported_parameter")
    request.structured_outputs = None
    return _for_llamacpp(request, wanted, kind)


def _wanted_schema(format: ResponseFormat | None) -> dict[str, Any] | None:
    """The schema that `response_format` stands for; None: any text."""
    if format is None or format.type == "text":
        return None
    if format.type == "json_object":
        return {"type": "object"}
    if format.json_schema is None:
        param = "response_format.json_schema"
        raise bad_request(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    return format.json_schema.definition or {}


def _response_format(request: Request, profile: EngineProfile, schema: dict[str, Any] | None) -> dict[str, Any]:
    """Chat has it as it is; llama.cpp's text completions know the schema by another name."""
    if schema is None:
        request.response_format = None
        return {}
    if profile.structure is not Structure.LLAMACPP:
        return {}
    param = "response_format.json_schema.schema" if schema != {"type": "object"} else "response_format"
    _check_schema(schema, param)
    if isinstance(request, ChatRequest) and request.tools:
        message = "'response_format' cannot be combined with 'tools' for this model."
        raise bad_request(message, param="response_format", code="unsupported_parameter")
    request.response_format = None
    return _schema(request, schema)


def _schema(request: Request, schema: dict[str, Any]) -> dict[str, Any]:
    """llama.cpp's chat turns a schema into a grammar of its own, which leaves out patterns, formats, multiples and
    more without a word. Said as a grammar of llguidance, it keeps to all that `schema_check` lets through."""
    if isinstance(request, CompletionRequest):
        return {"json_schema": schema}
    return {"grammar": "%llguidance {}\nstart: %json " + msgspec.json.encode(schema).decode()}


def _kind(wanted: StructuredOutputs) -> str:
    given = [name for name in _KINDS if getattr(wanted, name) is not None]
    if len(given) != 1:
        message = f"'structured_outputs' has exactly one of {', '.join(_KINDS)}."
        raise bad_request(message, param="structured_outputs", code="invalid_value")
    return given[0]


def _for_llamacpp(request: Request, wanted: StructuredOutputs, kind: str) -> dict[str, Any]:
    param = f"structured_outputs.{kind}"
    if wanted.json is not None:
        schema = _parsed(wanted.json, param) if isinstance(wanted.json, str) else wanted.json
        _check_schema(schema, param)
        return _schema(request, schema)
    if wanted.regex is not None:
        try:
            return {"grammar": grammar_of(wanted.regex)}
        except Unsupported as error:
            message = f"This regular expression cannot be used with this model: {error}."
            raise bad_request(message, param=param, code="unsupported_value") from None
    if wanted.choice is not None:
        if sum(map(len, wanted.choice)) > MAX_GRAMMAR:
            raise _too_large(param)
        return {"grammar": "root ::= " + " | ".join(literal(text) for text in wanted.choice)}
    assert wanted.grammar is not None
    _check_grammar(wanted.grammar, param)
    return {"grammar": wanted.grammar}


def _parsed(text: str, param: str) -> dict[str, Any]:
    if len(text) > MAX_GRAMMAR:
        raise _too_large(param)
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise bad_request(f"'{param}' is not JSON: {error}", param=param, code="invalid_value") from None
    if not isinstance(value, dict):
        raise bad_request(f"'{param}' is not a JSON schema.", param=param, code="invalid_value")
    return value


def _check_schema(schema: dict[str, Any], param: str) -> None:
    try:
        check(schema)
    except Unusable as error:
        message = f"The model's engine cannot keep to the schema in '{param}': {error}."
        raise bad_request(message, param=param, code="unsupported_value") from None


def _check_grammar(grammar: str, param: str) -> None:
    if len(grammar) > MAX_GRAMMAR:
        raise _too_large(param)
    if "%llguidance" in grammar:
        # Of another notation llama.cpp takes notice only where it can be read; else it answers without any.
        raise bad_request(f"'{param}' is not GBNF.", param=param, code="unsupported_value")
    depth = 0
    for found in _BRACKET.finditer(grammar):
        depth += {"(": 1, ")": -1}.get(found.group(), 0)
        if depth > MAX_DEPTH:
            raise _too_large(param)
    for count in re.findall(r"\d+", re.sub(r'"(?:\\.|[^"\\\n])*"', "", grammar)):
        if len(count) > 4 or int(count) > MAX_REPEATS:
            message = f"'{param}' repeats something {count[:20]} times; the model's engine takes at most {MAX_REPEATS}."
            raise bad_request(message, param=param, code="unsupported_value")


def _too_large(param: str) -> ApiError:
    return bad_request(f"'{param}' is too large or too deeply nested.", param=param, code="unsupported_value")
