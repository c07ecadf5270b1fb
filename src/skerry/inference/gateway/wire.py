"""Request bodies of the hot paths: what OpenAI's clients may send, with types and ranges.

A field that is absent and one that is null mean the same. `parse` gives the body or an `ApiError` that names the
parameter. What is valid but not known to an engine is refused in `admission`, by the engine's profile; what an engine
knows by another name is rewritten in `translate`.
"""

import re
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, final

import msgspec
from msgspec import Meta, Struct

from skerry.inference.gateway.errors import ApiError, bad_request

Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Choices = Annotated[int, Meta(ge=1, le=16)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
BiasedToken = Annotated[str, Meta(pattern=r"^[0-9]{1,9}$", description="The id of a token.")]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Stop = Annotated[str, Meta(min_length=1)]
StopList = Annotated[list[Stop], Meta(max_length=4)]
Raw = msgspec.Raw

MAX_METADATA: Final = 16
MAX_INPUTS: Final = 2048
"""Texts that one request for embeddings may have."""
MAX_CHOICES: Final = 1024
"""Answers that `structured_outputs.choice` may list."""


class TextPart(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: str


class RefusalPart(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    refusal: str


Content = str | list[TextPart | RefusalPart] | None


class FunctionCall(Struct, forbid_unknown_fields=True):
    name: str
    arguments: str


class ToolCall(Struct, forbid_unknown_fields=True, omit_defaults=True):
    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class _Message(Struct, forbid_unknown_fields=True, omit_defaults=True, tag_field="role"):
    content: Content = None
    name: str | None = None


class SystemMessage(_Message, tag="system"):
    pass


class DeveloperMessage(_Message, tag="developer"):
    pass


class UserMessage(_Message, tag="user"):
    pass


class AssistantMessage(_Message, tag="assistant"):
    tool_calls: list[ToolCall] | None = None
    refusal: str | None = None


class ToolMessage(_Message, tag="tool"):
    tool_call_id: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class Function(Struct, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, forbid_unknown_fields=True):
    function: Function
    type: Literal["function"] = "function"


class NamedFunction(Struct, forbid_unknown_fields=True):
    name: str


class NamedTool(Struct, forbid_unknown_fields=True):
    function: NamedFunction
    type: Literal["function"] = "function"


class JsonSchema(Struct, forbid_unknown_fields=True, omit_defaults=True, rename={"definition": "schema"}):
    name: str
    description: str | None = None
    definition: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(Struct, forbid_unknown_fields=True, omit_defaults=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What the whole answer must look like; exactly one of them. vLLM's name and shape, for every engine that can."""

    json: dict[str, Any] | str | None = None
    """A JSON schema, or its text."""
    regex: Annotated[str, Meta(min_length=1)] | None = None
    choice: Annotated[list[str], Meta(min_length=1, max_length=MAX_CHOICES)] | None = None
    grammar: Annotated[str, Meta(min_length=1)] | None = None
    """In the engine's own notation: GBNF for llama.cpp, Lark or EBNF for vLLM."""


class StreamOptions(Struct, forbid_unknown_fields=True, omit_defaults=True):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class Sampling(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What chat and text completions have in common."""

    never: ClassVar[None] = None
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    n: Choices | None = None
    stop: Stop | StopList | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[BiasedToken, Bias] | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    # Accepted, without effect here (API §7).
    user: str | None = None
    metadata: Annotated[dict[str, str], Meta(max_length=MAX_METADATA)] | None = None
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None


@final
class ChatRequest(Sampling, kw_only=True):
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    modalities: list[str] | None = None
    prediction: dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    verbosity: str | None = None
    functions: list[Any] | None = None
    function_call: Any = None


@final
class CompletionRequest(Sampling, kw_only=True):
    prompt: str | list[str | int | list[int]] = ""
    """One text, texts, one list of token ids, or several of them."""
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Choices | None = None


@final
class EmbeddingsRequest(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    never: ClassVar[None] = None
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    input: str | list[str | TokenId | list[TokenId]]
    """One text, texts, one list of token ids, or several of them; see `inputs`."""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Count | None = None
    # Accepted, without effect here.
    user: str | None = None


Request = ChatRequest | CompletionRequest
AnyRequest = ChatRequest | CompletionRequest | EmbeddingsRequest
R = TypeVar("R", ChatRequest, CompletionRequest, EmbeddingsRequest)

NO_EFFECT: Final = ("user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier")
EVERY_ENGINE: Final = frozenset(
    {
        "model",
        "messages",
        "prompt",
        "input",
        "encoding_format",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        *NO_EFFECT,
    }
)

chat_decoder: Final = msgspec.json.Decoder(ChatRequest)
completion_decoder: Final = msgspec.json.Decoder(CompletionRequest)
embeddings_decoder: Final = msgspec.json.Decoder(EmbeddingsRequest)
encoder: Final = msgspec.json.Encoder()
_AT: Final = re.compile(r" - at (?:`key` in )?`\$\.?(.*)`$", re.DOTALL)
_FIELD: Final = re.compile(r"(?:unknown field|missing required field) `([^`]*)`")


def parse(decoder: msgspec.json.Decoder[R], body: bytes) -> R:
    """The checked body. Raises ApiError 400 that names the parameter where it is wrong."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _named(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"The body is not valid JSON: {error}", code="invalid_json") from None
    except RecursionError:
        raise bad_request("The body is nested too deeply", code="invalid_json") from None


def inputs(request: EmbeddingsRequest) -> int:
    """How many vectors are asked for. Raises ApiError 400 for no text, an empty one, a mixture, or too many."""
    given = request.input
    if isinstance(given, str):
        given = [given]
    if not given or any(part == "" or part == [] for part in given):
        raise bad_request("'input' has no text, or an empty one.", param="input", code="invalid_value")
    if len({type(part) for part in given}) > 1:
        message = "'input' is a text, a list of texts, a list of token ids, or a list of such lists; not a mixture."
        raise bad_request(message, param="input", code="invalid_value")
    if isinstance(given[0], int):
        return 1
    if len(given) > MAX_INPUTS:
        message = f"'input' has {len(given)} texts; a request may have {MAX_INPUTS}. Send them in several requests."
        raise bad_request(message, param="input", code="invalid_value")
    return len(given)


def encode(request: AnyRequest, extra: dict[str, Any] | None = None) -> bytes:
    """The body for an engine. Written anew rather than passed on, so that both sides read the same values."""
    body = encoder.encode(request)
    if not extra:
        return body
    return body[:-1] + b"," + encoder.encode(extra)[1:]


def optional_fields(kind: type[AnyRequest]) -> frozenset[str]:
    return frozenset(kind.__struct_fields__) - EVERY_ENGINE


def _named(message: str) -> ApiError:
    """Turn msgspec's words into an error that names the parameter in dots: `messages.0.content`."""
    at = _AT.search(message)
    path = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", at.group(1)).strip(".") if at else ""
    text = message[: at.start()] if at else message
    field = _FIELD.search(text)
    if field:
        param = f"{path}.{field.group(1)}" if path else field.group(1)
        if "unknown" in text:
            return bad_request(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
        return bad_request(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if not path:
        return bad_request(f"The body must be a JSON object: {text}", code="invalid_json")
    return bad_request(f"Invalid value for '{path}': {text}.", param=path, code="invalid_value")
