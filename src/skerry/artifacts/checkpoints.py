"""What the files beside safetensors say of a checkpoint: which BERT it is, and whether it asks for code to be run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from skerry.artifacts.errors import BadWeights

_LARGEST: Final = 1 << 20
_POOLINGS: Final = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


class BadCheckpoint(BadWeights):
    """A checkpoint of a kind that is not served."""

    code = "bad_checkpoint"


@dataclass(frozen=True, slots=True)
class BertShape:
    """Sizes of a BERT encoder. `pooling` is how its vectors of tokens become one: mean or cls."""

    layers: int
    width: int
    inner: int
    heads: int
    context: int
    token_types: int
    epsilon: float
    pooling: str


def is_bert(config: Mapping[str, Any]) -> bool:
    """Whether it says it is a plain BERT encoder, whose vectors llama.cpp can make."""
    kinds = config.get("architectures")
    named = kinds[0] if isinstance(kinds, list) and kinds else "BertModel"
    return config.get("model_type") == "bert" and named in ("BertModel", "BertForMaskedLM")


def bert_shape(config: Mapping[str, Any], tokenizer: Mapping[str, Any], pooling: Mapping[str, Any]) -> BertShape:
    """Raises BadCheckpoint for a BERT that llama.cpp would read otherwise than it was trained."""
    if not is_bert(config):
        raise BadCheckpoint("it is no plain BERT encoder", suggestion="Convert it to GGUF with llama.cpp's converter.")
    if config.get("hidden_act", "gelu") != "gelu":
        raise BadCheckpoint(f"its activation {config.get('hidden_act')!r} is not gelu")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise BadCheckpoint("its positions are not absolute")
    if tokenizer.get("do_lower_case", True) is not True or tokenizer.get("strip_accents") is False:
        raise BadCheckpoint("it tells capital letters or accents apart, which llama.cpp's tokenizer does not")
    modes = [name for key, name in _POOLINGS.items() if pooling.get(key) is True]
    others = [key for key in pooling if key.startswith("pooling_mode_") and pooling[key] is True]
    if len(others) > 1 or len(others) != len(modes):
        raise BadCheckpoint("its pooling is neither the mean nor that of the first token")
    width, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    if width % heads:
        raise BadCheckpoint(f"its width {width} is not a multiple of its {heads} heads")
    epsilon = config.get("layer_norm_eps", 1e-12)
    return BertShape(
        layers=_size(config, "num_hidden_layers"),
        width=width,
        inner=_size(config, "intermediate_size"),
        heads=heads,
        context=_size(config, "max_position_embeddings"),
        token_types=_size(config, "type_vocab_size"),
        epsilon=float(epsilon) if isinstance(epsilon, int | float) and 0 < epsilon < 1 else 1e-12,
        pooling=modes[0] if modes else "mean",
    )


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LARGEST:
        raise BadCheckpoint(f"config.json has no sound {key}")
    return value
