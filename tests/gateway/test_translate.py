"""What engines are told in their own words, and what is refused because they would ignore it."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.inference.engines.base import Capabilities, EngineKind, EngineProfile, Structure, Task
from skerry.inference.gateway.errors import ApiError
from skerry.inference.gateway.refusals import from_engine
from skerry.inference.gateway.regex_grammar import Unsupported, grammar_of, literal
from skerry.inference.gateway.schema_check import Unusable, check
from skerry.inference.gateway.translate import translate
from skerry.inference.gateway.wire import (
    chat_decoder,
    completion_decoder,
    embeddings_decoder,
    encode,
    inputs,
    parse,
)
from tests.gateway.harness import route

LLAMACPP = EngineProfile(EngineKind.LLAMACPP, frozenset(), True, structure=Structure.LLAMACPP)
VLLM = EngineProfile(EngineKind.VLLM, frozenset(), True, structure=Structure.VLLM)
EXTERNAL = EngineProfile(EngineKind.EXTERNAL, frozenset(), True)
UNSEEDED = EngineProfile(EngineKind.VLLM, frozenset(), True, can=Capabilities(seed_safe=False))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def chat(**fields):
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return parse(chat_decoder, json.dumps(body).encode())


def text(**fields):
    return parse(completion_decoder, json.dumps({"model": "m", "prompt": "hi", **fields}).encode())


def embeddings(given):
    return parse(embeddings_decoder, json.dumps({"model": "m", "input": given}).encode())


def refusal(call) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call()
    assert caught.value.status == 400
    return caught.value


# Structured outputs


def test_a_plain_request_needs_nothing():
    assert translate(chat(), LLAMACPP) == {}
    assert translate(text(), EXTERNAL) == {}


@pytest.mark.parametrize("make", [chat, text])
@pytest.mark.parametrize(
    ("wanted", "extra"),
    [
        ({"regex": "[ab]+"}, {"grammar": "root ::= [ab]+"}),
        ({"choice": ["yes", 'a"b\n']}, {"grammar": r'root ::= "yes" | "a\x22b\x0A"'}),
        ({"grammar": 'root ::= "a"'}, {"grammar": 'root ::= "a"'}),
    ],
)
def test_llamacpp_gets_its_own_words(make, wanted, extra):
    request = make(structured_outputs=wanted)
    assert translate(request, LLAMACPP) == extra
    assert b"structured_outputs" not in encode(request, extra)


def test_vllm_gets_them_as_they_are():
    request = chat(structured_outputs={"regex": "(?=a)b"})
    assert translate(request, VLLM) == {}
    assert json.loads(encode(request))["structured_outputs"] == {"regex": "(?=a)b"}


def test_an_upstream_gets_none_of_them():
    assert refusal(lambda: translate(chat(structured_outputs={"regex": "a"}), EXTERNAL)).param == "structured_outputs"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "grammar": "b"}}, "structured_outputs"),
        ({"structured_outputs": {"regex": r"(a)\1"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "[]"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": {"not": {}}}}, "structured_outputs.json"),
        ({"structured_outputs": {"grammar": "%llguidance {}\nstart: /a/"}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"grammar": "root ::= " + "(" * 99 + '"a"' + ")" * 99}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"grammar": 'root ::= "a"{99999}'}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"grammar": "x" * 70_000}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"if": {}}}}},
            "response_format.json_schema.schema",
        ),
    ],
)
@pytest.mark.parametrize("make", [chat, text])
def test_what_llamacpp_would_ignore_is_refused_by_name(make, fields, param):
    assert refusal(lambda: translate(make(**fields), LLAMACPP)).param == param


def test_a_schema_of_a_text_completion_goes_by_llamacpps_name():
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    request = text(response_format=wanted)
    assert translate(request, LLAMACPP) == {"json_schema": SCHEMA}
    assert b"response_format" not in encode(request)
    assert translate(text(response_format={"type": "json_object"}), LLAMACPP) == {"json_schema": {"type": "object"}}
    assert translate(text(structured_outputs={"json": json.dumps(SCHEMA)}), LLAMACPP) == {"json_schema": SCHEMA}


@pytest.mark.parametrize(
    "wanted",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json": json.dumps(SCHEMA)}},
    ],
)
def test_a_schema_of_a_chat_goes_as_a_grammar_that_is_kept_to(wanted):
    request = chat(**wanted)
    ((name, grammar),) = translate(request, LLAMACPP).items()
    head, schema = grammar.split("%json ")
    assert (name, head, json.loads(schema)) == ("grammar", "%llguidance {}\nstart: ", SCHEMA)
    assert b"response_format" not in encode(request)


def test_a_schema_and_tools_cannot_both_be_kept_to():
    tool = {"type": "function", "function": {"name": "f"}}
    request = chat(response_format={"type": "json_object"}, tools=[tool])
    assert refusal(lambda: translate(request, LLAMACPP)).param == "response_format"


def test_text_as_a_format_asks_for_nothing():
    request = text(response_format={"type": "text"})
    assert translate(request, LLAMACPP) == {}
    assert b"response_format" not in encode(request)


def test_tools_whose_parameters_cannot_be_kept_to_are_refused():
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "propertyNames": {}}}}
    assert refusal(lambda: translate(chat(tools=[tool]), LLAMACPP)).param == "tools.0.function.parameters"
    assert translate(chat(tools=[tool]), EXTERNAL) == {}
    both = chat(tools=[tool | {"function": {"name": "f"}}], structured_outputs={"regex": "a"})
    assert refusal(lambda: translate(both, LLAMACPP)).param == "structured_outputs"


def test_a_seed_that_would_kill_the_engine_is_refused():
    assert refusal(lambda: translate(chat(seed=7), UNSEEDED)).param == "seed"
    request = chat(seed=7)
    translate(request, VLLM)
    assert request.seed == 7


def test_top_logprobs_need_logprobs():
    assert refusal(lambda: translate(chat(top_logprobs=2), LLAMACPP)).param == "top_logprobs"
    assert refusal(lambda: translate(chat(top_logprobs=2, logprobs=False), EXTERNAL)).param == "top_logprobs"
    assert translate(chat(top_logprobs=2, logprobs=True), LLAMACPP) == {}


# The wire


def test_biases_are_of_token_ids():
    assert chat(logit_bias={"15": -100, "7": 1.5}).logit_bias == {"15": -100, "7": 1.5}
    for bad in ("hello", "-1", "1.5", "", " 1"):
        assert refusal(lambda bad=bad: chat(logit_bias={bad: 1})).param.startswith("logit_bias")


@pytest.mark.parametrize(
    ("given", "count"),
    [("hi", 1), (["hi"], 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2), (["x"] * 2048, 2048)],
)
def test_inputs_of_embeddings(given, count):
    assert inputs(embeddings(given)) == count


@pytest.mark.parametrize("given", ["", [], [""], ["a", ""], [[]], ["a", 1], [[1], 2], ["x"] * 2049])
def test_inputs_that_are_none(given):
    assert refusal(lambda: inputs(embeddings(given))).param == "input"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"input": [-1]}, "input.0"),
        ({"input": [True]}, "input.0"),
        ({"input": {"a": 1}}, "input"),
        ({"lora": 1}, "lora"),
    ],
)
def test_what_is_no_request_for_embeddings(fields, param):
    body = {"model": "m", "input": "hi", **fields}
    error = refusal(lambda: parse(embeddings_decoder, json.dumps(body).encode()))
    assert error.param.replace("...", "0") in (param, f"{param}.0"), error.param


def test_a_text_beyond_an_embedding_models_context_is_the_callers_matter():
    words = "input (602 tokens) is too large to process. increase the physical batch size (current batch size: 512)"
    body = json.dumps({"error": {"code": 500, "message": words, "type": "server_error"}}).encode()
    error = from_engine(500, body, route("http://127.0.0.1:1", context=512), Task.EMBEDDING)
    assert (error.status, error.param, error.code) == (400, "input", "context_length_exceeded")
    assert "602" in error.message and "512" in error.message
    assert from_engine(500, body, route("http://127.0.0.1:1"), Task.CHAT).status == 503


# Regular expressions


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(?=a)b", "look-ahead"),
        (r"(?<!a)b", "look-behind"),
        (r"(a)\1", "reference"),
        (r"(?P=a)", "reference"),
        (r"\bword", r"\b"),
        (r"(?i)a", "flags"),
        (r"(?>a)", "atomic"),
        (r"a++", "two repeats"),
        (r"\p{L}", r"\p"),
        (r"[\D]", r"\D in a class"),
        (r"[[:alpha:]]", "named class"),
        (r"a^b", "'^'"),
        (r"a$b", "'$'"),
        (r"(a$)b", "'$'"),
        (r"(a", "not closed"),
        (r"a)", "unmatched"),
        (r"[a", "not closed"),
        (r"[b-a]", "range"),
        (r"*a", "nothing to repeat"),
        (r"a{3,2}", "ends before"),
        (r"a{5000}", "repeats"),
        (r"((a{1000}){1000}){1000}", "repeats"),
        (r"a{,3}", "braces"),
        ("a\\", "backslash"),
        ("(" * 60 + ")" * 60, "nested"),
        ("a" * 5000, "longer"),
    ],
)
def test_patterns_beyond_the_subset_are_named(pattern, why):
    with pytest.raises(Unsupported, match=re.escape(why)):
        grammar_of(pattern)


CLASS = st.sampled_from(
    ["[abc]", "[^a-c]", r"[\w-]", r"[\d.]", "[]a]", r"[^\]x]", r"\d", r"\w", r"\s", r"\S", ".", "[ä-ü]"]
)
LITERAL = st.sampled_from(["a", "b", "-", " ", "ü", r"\.", r"\n", r"\\", '"', r"\x41", r"ab", r"\u00e9", "#", ";"])
PATTERNS = st.recursive(
    CLASS | LITERAL,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "+?"])).map(
            lambda two: f"({two[0]}){two[1]}"
        ),
    ),
    max_leaves=8,
)


def as_python(grammar: str) -> str:
    """The same language as a Python pattern: each notation of the grammar is turned by itself."""
    out = []
    for token in re.findall(r'"[^"]*"|\[[^\]]*\]|\{[^}]*\}|[()|*+?]', grammar.removeprefix("root ::= ")):
        out.append(f"(?:{token[1:-1]})" if token[0] == '"' and len(token) > 2 else "" if token[0] == '"' else token)
    return "".join(out).replace("#", r"\#")


@settings(max_examples=300, deadline=None)
@given(PATTERNS, st.data())
def test_a_grammar_matches_what_its_pattern_matches(pattern, data):
    made = re.compile(as_python(grammar_of(pattern)))
    tried = data.draw(
        st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True) | st.text('ab-. ü\n9Aé\\"', max_size=8)
    )
    expected = re.fullmatch(pattern, tried, re.ASCII) is not None
    assert (made.fullmatch(tried) is not None) == expected, (pattern, tried)


@given(st.text(max_size=40))
def test_any_text_is_a_literal_on_one_line(text):
    quoted = literal(text)
    assert quoted.count('"') == 2
    assert "\n" not in quoted
    assert re.compile(f"(?:{quoted[1:-1]})").fullmatch(text) or re.search(r"[*+?.()\[\]{}|^$#]", text)


@settings(max_examples=300)
@given(st.text("()[]{}|*+?^$\\.abdDwsxu,:<>P=!0123-", max_size=20))
def test_no_pattern_is_anything_but_taken_or_refused(pattern):
    try:
        grammar = grammar_of(pattern)
    except Unsupported as error:
        assert str(error)
    else:
        assert "\n" not in grammar


# Schemas

ITSELF = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
LIST_END = {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}
LIST = {
    "$defs": {"n": {"type": "object", "properties": {"next": LIST_END}, "required": ["next"]}},
    "$ref": "#/$defs/n",
}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        SCHEMA,
        LIST,
        {"type": ["string", "null"], "x-note": 1, "title": "T"},
        {"type": "object", "properties": {"not": {"type": "string"}, "if": {"enum": [1, "a"]}}},
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "integer", "minimum": 1, "maximum": 1},
        {"type": "array", "prefixItems": [{"type": "string"}], "minItems": 1, "maxItems": 1},
        {"type": "string", "pattern": r"^\d{2}-[a-z]+$"},
    ],
)
def test_schemas_that_are_kept_to(schema):
    check(schema)


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"not": {}}, "'not'"),
        ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
        ({"type": "string", "nullable": True}, "add 'null'"),
        ({"type": "strnig"}, "'type'"),
        ({"type": []}, "'type'"),
        ({"enum": []}, "no value"),
        ({"type": "string", "enum": [1]}, "no value"),
        ({"type": "string", "const": None}, "no value"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "limits"),
        ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "limits"),
        ({"minLength": 3, "maxLength": 2}, "above 'maxLength'"),
        ({"minItems": 10**9}, "above"),
        ({"minItems": -1}, "count"),
        ({"type": "string", "format": "uri"}, "format"),
        ({"type": "string", "pattern": "(?=a)"}, "pattern"),
        ({"$ref": "http://127.0.0.1/x"}, "outside"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"$ref": "#"}, "way out"),
        (ITSELF, "way out"),
        ({"required": ["z"], "additionalProperties": False}, "names 'z'"),
        ({"properties": {"a": False}}, "no schema"),
        ({"items": False}, "no schema"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "'oneOf'"),
        ({"anyOf": []}, "no list"),
        ({"properties": []}, "no object"),
    ],
)
def test_schemas_that_would_be_ignored(schema, word):
    with pytest.raises(Unusable, match=re.escape(word)):
        check(schema)


def test_a_deep_schema_is_refused_without_going_down():
    deep: dict = {}
    for _ in range(500):
        deep = {"properties": {"a": deep}}
    with pytest.raises(Unusable, match="deep"):
        check(deep)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-5, 5)
    | st.sampled_from(["object", "string", "#", "#/$defs/a", "^a$"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "enum",
                    "const",
                    "anyOf",
                    "oneOf",
                    "allOf",
                    "$ref",
                    "$defs",
                    "a",
                    "properties",
                    "required",
                    "items",
                    "prefixItems",
                    "additionalProperties",
                    "minItems",
                    "maxItems",
                    "minimum",
                    "multipleOf",
                    "pattern",
                    "format",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["type", "$ref", "properties", "anyOf", "$defs", "required", "items", "oneOf", "allOf"]),
        JSON,
        max_size=4,
    )
)
def test_any_object_is_taken_or_refused(schema):
    try:
        check(schema)
    except Unusable as error:
        assert str(error)
