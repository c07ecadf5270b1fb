"""Names, upstream URLs, context lengths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.artifacts import rules
from skerry.artifacts.errors import (
    BadContext,
    BadModelName,
    BadSource,
    EngineUnsupported,
    OperatorOnly,
)
from skerry.artifacts.model import EngineKind, ModelFacts, ModelSource, SourceKind
from skerry.kernel.errors import SkerryError


@pytest.mark.parametrize("name", ["a", "smollm2-135m-instruct", "Qwen/Qwen3-0.6B", "llama3.1:8b", "a" * 128, "fta"])
def test_names_that_are_fine(name: str):
    assert rules.check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", " a", "a b", "-a", "a/", "/a", "a//b", "a/events", "ä", "a\n", "a" * 129, "ft:a", "FT:a:b", "a\x00"]
)
def test_names_that_are_not(name: str):
    with pytest.raises(BadModelName):
        rules.check_name(name)


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://host", "http://host/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("HTTPS://Host.Example/v1/", "https://host.example/v1"),
        ("https://host/api/openai/v1", "https://host/api/openai/v1"),
        ("https://host/v1/chat/completions", "https://host/v1"),
        ("http://[::1]:9000", "http://[::1]:9000/v1"),
        ("http://127.0.0.1:41234/v1", "http://127.0.0.1:41234/v1"),
    ],
)
def test_upstreams_become_a_base_url(given: str, base: str):
    assert rules.normal_upstream(given) == base
    assert rules.normal_upstream(base) == base


@pytest.mark.parametrize(
    "url",
    [
        "host", "ftp://host", "file:///etc/passwd", "http://", "http:///v1", "http://user:secret@host", "http://u@host",
        "http://host/v1?key=x", "http://host/v1#x", "http://host?", "http://host:0", "http://host:99999",
        "http://host:x", "http://ho st", "http://host\r\nx: y", "http://hö.st", "unix:/run/x", "http://[::1", "http://a\\b",
    ],
)  # fmt: skip
def test_upstreams_that_are_refused(url: str):
    with pytest.raises(BadSource) as caught:
        rules.normal_upstream(url)
    assert caught.value.code == "bad_upstream"
    assert "secret" not in caught.value.detail


@given(st.text(max_size=60))
def test_no_url_does_more_than_be_refused(url: str):
    for candidate in (url, f"http://{url}", f"https://host/{url}"):
        try:
            base = rules.normal_upstream(candidate)
        except SkerryError:
            continue
        assert rules.normal_upstream(base) == base
        assert base.isascii() and base.isprintable() and " " not in base


@pytest.mark.parametrize("key", ["", "a b", "a\r\nx: y", "ä", "a" * 4097])
def test_keys_that_no_header_can_carry(key: str):
    with pytest.raises(BadSource):
        rules.check_upstream_key(key)


def test_sources_are_the_operators():
    for kind in SourceKind:
        rules.check_source(ModelSource(kind, "x"), operator=True)
        with pytest.raises(OperatorOnly):
            rules.check_source(ModelSource(kind, "x"), operator=False)


def test_the_context_is_at_most_what_the_model_was_trained_for():
    facts = ModelFacts(trained_context=2048)
    assert rules.context_length(None, facts, SourceKind.PATH) == 2048
    assert rules.context_length(512, facts, SourceKind.PATH) == 512
    assert rules.context_length(None, ModelFacts(), SourceKind.PATH) == rules.FILE_CONTEXT
    assert rules.context_length(None, ModelFacts(), SourceKind.UPSTREAM) == rules.UPSTREAM_CONTEXT
    assert rules.context_length(1_000_000, ModelFacts(), SourceKind.UPSTREAM) == 1_000_000
    with pytest.raises(BadContext):
        rules.context_length(2049, facts, SourceKind.PATH)


def test_the_engine_follows_from_the_source():
    assert rules.choose_engine(None, EngineKind.LLAMACPP) is EngineKind.LLAMACPP
    with pytest.raises(EngineUnsupported):
        rules.choose_engine(EngineKind.LLAMACPP, EngineKind.EXTERNAL)
    with pytest.raises(EngineUnsupported):
        rules.choose_engine(EngineKind.VLLM, EngineKind.LLAMACPP)


def test_an_engine_that_this_cloud_lacks_is_refused_with_what_to_do():
    assert rules.choose_engine(None, EngineKind.VLLM, {EngineKind.VLLM}) is EngineKind.VLLM
    with pytest.raises(EngineUnsupported) as caught:
        rules.choose_engine(EngineKind.VLLM, EngineKind.VLLM, {EngineKind.LLAMACPP})
    assert "SKERRY_VLLM_PYTHON" in caught.value.suggestion


def test_vectors_have_a_context_that_memory_can_hold():
    facts = ModelFacts(trained_context=32_768, embedding_width=1024)
    assert rules.context_length(None, facts, SourceKind.PATH) == rules.EMBEDDING_CONTEXT
    assert rules.context_length(32_768, facts, SourceKind.PATH) == 32_768
