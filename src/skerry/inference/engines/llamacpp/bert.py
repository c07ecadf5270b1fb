"""Turns a BERT checkpoint (safetensors) into the GGUF that llama.cpp serves embeddings from.

What can be turned is said in `readable`; everything else is refused with words. Names and layout are those of
llama.cpp's own converter (`BertModel` of convert_hf_to_gguf.py). The weights stay as precise as they are where that is
cheap: matrices in 16 bits, everything else in 32.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf
import numpy
from safetensors import SafetensorError
from safetensors.numpy import load

from skerry.artifacts.checkpoints import BadCheckpoint, BertShape, bert_shape

__all__ = ["BadCheckpoint", "Checkpoint", "convert"]

_PREFIX: Final = "bert."
_UNUSED: Final = ("pooler.", "cls.", "embeddings.position_ids")
"""Parts that other tasks need, or that can be made from nothing."""
_SPACE: Final = "\u2581"
"""How llama.cpp marks the beginning of a word."""
_POOLING: Final = {
    "mean": gguf.PoolingType.MEAN,
    "cls": gguf.PoolingType.CLS,
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The contents of a checkpoint's files, read while we may."""

    config: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    tokenizer_config: Mapping[str, Any]
    pooling: Mapping[str, Any]
    vocabulary: str
    weights: bytes

    @classmethod
    def read(cls, folder: Path) -> "Checkpoint":
        """Raises OSError, ValueError."""
        return cls(
            config=_json(folder / "config.json"),
            tokenizer=_json(folder / "tokenizer.json"),
            tokenizer_config=_json(folder / "tokenizer_config.json"),
            pooling=_json(folder / "1_Pooling" / "config.json"),
            vocabulary=_text(folder / "vocab.txt"),
            weights=(folder / "model.safetensors").read_bytes(),
        )


def convert(checkpoint: Checkpoint, name: str, target: Path) -> None:
    """Write the GGUF. Raises BadCheckpoint for what cannot be turned, OSError."""
    shape = bert_shape(checkpoint.config, checkpoint.tokenizer_config, checkpoint.pooling)
    tokens = _tokens(checkpoint)
    tensors = _tensors(checkpoint.weights, shape, len(tokens))
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.BERT])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.inner)
    writer.add_block_count(shape.layers)
    writer.add_head_count(shape.heads)
    writer.add_layer_norm_eps(shape.epsilon)
    writer.add_causal_attention(False)
    writer.add_pooling_type(_POOLING[shape.pooling])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_vocabulary(writer, tokens, shape)
    for tensor, data in tensors.items():
        writer.add_tensor(tensor, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(weights: bytes, shape: BertShape, vocabulary: int) -> dict[str, Any]:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, shape.layers)
    try:
        stored = load(weights)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        # TypeError, KeyError: a number format that numpy does not have, such as bfloat16.
        raise BadCheckpoint(f"model.safetensors cannot be read: {error}") from error
    found: dict[str, Any] = {}
    for source, values in stored.items():
        source = source.removeprefix(_PREFIX)
        if source.startswith(_UNUSED):
            continue
        target = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise BadCheckpoint(f"the tensor {source} has no place in a BERT")
        matrix = values.ndim == 2 and not source.startswith(("embeddings.position", "embeddings.token_type"))
        found[target] = values.astype(numpy.float16 if matrix else numpy.float32)
    _require_whole(found, shape, vocabulary)
    return found


def _require_whole(found: Mapping[str, Any], shape: BertShape, vocabulary: int) -> None:
    """llama.cpp says less kindly what is missing."""
    embedding = found.get("token_embd.weight")
    if embedding is None or embedding.shape != (vocabulary, shape.width):
        raise BadCheckpoint(f"its embedding matrix does not fit {vocabulary} tokens of width {shape.width}")
    # Five of the embeddings, and sixteen a layer.
    if len(found) != 5 + 16 * shape.layers:
        raise BadCheckpoint(f"it has {len(found)} tensors, not the {5 + 16 * shape.layers} of {shape.layers} layers")


def _tokens(checkpoint: Checkpoint) -> list[str]:
    """The vocabulary by id, of tokenizer.json or, where there is none, of vocab.txt."""
    model = checkpoint.tokenizer.get("model")
    words = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(model, dict) and isinstance(words, dict):
        if model.get("type") not in (None, "WordPiece"):
            raise BadCheckpoint(f"its tokenizer is a {model.get('type')}, not a WordPiece")
        listed = dict(words)
        for added in checkpoint.tokenizer.get("added_tokens") or ():
            listed[added["content"]] = added["id"]
        by_id = {number: word for word, number in listed.items()}
        if sorted(by_id) != list(range(len(by_id))):
            raise BadCheckpoint("its vocabulary has gaps")
        return [by_id[number] for number in range(len(by_id))]
    lines = checkpoint.vocabulary.splitlines()
    if not lines:
        raise BadCheckpoint("it has neither a tokenizer.json with a vocabulary nor a vocab.txt")
    return lines


def _add_vocabulary(writer: gguf.GGUFWriter, tokens: list[str], shape: BertShape) -> None:
    numbers = {token: number for number, token in enumerate(tokens)}
    special = {name: numbers.get(f"[{name}]") for name in ("CLS", "SEP", "UNK", "PAD", "MASK")}
    missing = [name for name in ("CLS", "SEP", "UNK", "PAD") if special[name] is None]
    if missing:
        raise BadCheckpoint(f"its vocabulary has no [{missing[0]}]")
    known = {f"[{name}]" for name in special}
    kinds = [gguf.TokenType.CONTROL if token in known else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([_spelt(token, known) for token in tokens])
    writer.add_token_types(kinds)
    writer.add_token_type_count(shape.token_types)
    for name, add in (
        ("CLS", writer.add_bos_token_id),
        ("SEP", writer.add_eos_token_id),
        ("SEP", writer.add_sep_token_id),
        ("UNK", writer.add_unk_token_id),
        ("PAD", writer.add_pad_token_id),
        ("MASK", writer.add_mask_token_id),
    ):
        number = special[name]
        if number is not None:
            add(number)


def _spelt(token: str, known: set[str]) -> str:
    """llama.cpp marks beginnings of words where BERT marks what goes on."""
    if token in known:
        return token
    return token[2:] if token.startswith("##") else _SPACE + token


def _json(path: Path) -> Mapping[str, Any]:
    text = _text(path)
    value = json.loads(text) if text else {}
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{path.name} is not a JSON object")
    return value


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""
