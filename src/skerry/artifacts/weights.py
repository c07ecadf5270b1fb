"""Finds the weights a path leads to, and what they say of themselves."""

import errno
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from skerry.artifacts import gguf
from skerry.artifacts.checkpoints import bert_shape, is_bert
from skerry.artifacts.errors import BadSource, BadWeights
from skerry.artifacts.model import EngineKind, ModelFacts, WeightsFormat

_SPLIT: Final = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_MAX_CONFIG: Final = 4 * 1024**2
_MAX_CARD: Final = 64 * 1024
_LONGEST_WORD: Final = 200
_ENCODERS: Final = frozenset(
    {
        "bert",
        "modern-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "jina-bert-v2",
        "jina-bert-v3",
        "gemma-embedding",
    }
)
"""Architectures of GGUF files that make vectors, whether they say how or not."""
_LICENSE_LINE: Final = re.compile(r"^license:\s*[\"']?([^\s\"'#]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Weights:
    """What was found: which engine can serve it, what it says of itself, and the licence it names."""

    engine: EngineKind
    facts: ModelFacts
    license: str | None


def inspect(location: str) -> Weights:
    """A GGUF file, a folder with one, or a folder of safetensors with `config.json`. Blocking: it reads the disk.

    Raises BadSource where there is nothing that can be read, BadWeights where it is no model.
    """
    path = Path(location)
    if not path.is_absolute():
        raise BadSource(
            f"{location!r} is not an absolute path", suggestion="Begin it with a slash.", code="path_not_absolute"
        )
    try:
        path = path.resolve(strict=True)
        return _inspect_folder(path) if path.is_dir() else _inspect_file(path)
    except (OSError, RuntimeError, ValueError) as error:
        # RuntimeError: a loop of links before Python 3.13. ValueError: a NUL in the name.
        raise _unreadable(location, error) from error


def inspect_gguf(path: Path) -> Weights:
    """Raises BadWeights, and OSError where it cannot be read."""
    header = gguf.read_header(path)
    return Weights(EngineKind.LLAMACPP, _facts(path, header), _word(header.text("general.license")))


def _inspect_file(path: Path) -> Weights:
    if not path.is_file():
        raise BadSource(f"{path} is not a file", code="path_not_readable")
    _require_single(path)
    return inspect_gguf(path)


def _inspect_folder(folder: Path) -> Weights:
    names = sorted(entry.name for entry in folder.iterdir())
    found = [name for name in names if name.endswith(".gguf")]
    if len(found) == 1:
        return _inspect_file(folder / found[0])
    if found:
        for name in found:
            _require_single(folder / name)
        raise BadSource(
            f"{folder} has {len(found)} GGUF files: {', '.join(found[:5])}",
            suggestion="Give the path of the one to serve.",
            code="several_weights",
        )
    if "config.json" in names and any(name.endswith(".safetensors") for name in names):
        return _inspect_checkpoint(folder, names)
    raise BadSource(
        f"{folder} has neither a .gguf file nor safetensors with a config.json",
        suggestion="Point to the folder with the weights. Pickled weights (.bin, .pt) are never loaded.",
        code="no_weights",
    )


def inspect_checkpoint(folder: Path) -> Weights:
    """Safetensors with a `config.json`. Raises BadWeights, OSError."""
    return _inspect_checkpoint(folder, sorted(entry.name for entry in folder.iterdir()))


def _inspect_checkpoint(folder: Path, names: list[str]) -> Weights:
    config, tokenizer = _json(folder / "config.json"), _json(folder / "tokenizer_config.json")
    require_no_code(config, tokenizer)
    size = sum((folder / name).stat().st_size for name in names if name.endswith(".safetensors"))
    template = folder / "chat_template.jinja"
    words = _text(template) if template.is_file() else tokenizer.get("chat_template")
    context = config.get("max_position_embeddings")
    bert = None
    if is_bert(config):
        bert = bert_shape(config, tokenizer, _json(folder / "1_Pooling" / "config.json"))
        if "model.safetensors" not in names:
            raise BadWeights(f"{folder} has no model.safetensors", code="bad_checkpoint")
    facts = ModelFacts(
        file=str(folder),
        format=WeightsFormat.SAFETENSORS.value,
        file_bytes=size,
        architecture=_word(config.get("model_type")),
        trained_context=context if isinstance(context, int) and context > 0 else None,
        chat_template=bool(words),
        tools="tools" in words if isinstance(words, str) else False,
        embedding_width=bert.width if bert else None,
        # An encoder keeps nothing of one token for the next; what it needs is there for one batch only.
        kv_bytes_per_token=bert.width * 64 if bert else None,
    )
    return Weights(EngineKind.LLAMACPP if bert else EngineKind.VLLM, facts, card_license(folder))


def require_no_code(config: dict[str, Any], tokenizer: dict[str, Any]) -> None:
    """Raises BadWeights for a checkpoint whose classes are Python files of its own: those are never run."""
    for name, part in (("config.json", config), ("tokenizer_config.json", tokenizer)):
        if part.get("auto_map") or part.get("trust_remote_code"):
            raise BadWeights(
                f"{name} asks for code of the model's own to be run ('auto_map'), which is never done",
                suggestion="Use a variant of the model for which transformers has the classes itself.",
                code="remote_code",
            )


def card_license(folder: Path) -> str | None:
    """What the front matter of the model card (README.md) says."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    with card.open("rb") as file:
        text = file.read(_MAX_CARD).decode("utf-8", "replace")
    front = text.split("\n---", 1)[0] if text.startswith("---") else ""
    found = _LICENSE_LINE.search(front)
    return _word(found.group(1)) if found else None


def _facts(path: Path, header: gguf.GgufHeader) -> ModelFacts:
    kind = header.text("general.type") or "model"
    if kind != "model":
        raise BadWeights(f"{path.name} holds a {_word(kind)}, not a model of its own", code="not_a_model")
    architecture = header.text("general.architecture")
    tokenizer = header.text("tokenizer.ggml.model")
    if architecture is None or not header.tensors:
        raise BadWeights(f"{path.name} has no weights, or does not say of which architecture", code="not_a_model")
    if tokenizer is None or tokenizer == "none":
        raise BadWeights(f"{path.name} has no tokenizer: it takes no text", code="no_tokenizer")
    template = header.text("tokenizer.chat_template") or ""
    return ModelFacts(
        file=str(path),
        format=WeightsFormat.GGUF.value,
        file_bytes=path.stat().st_size,
        architecture=_word(architecture),
        title=_word(header.text("general.name")),
        trained_context=header.number(f"{architecture}.context_length"),
        tokenizer=_word(tokenizer),
        parameters=header.parameters if 0 < header.parameters < 2**63 else None,
        kv_bytes_per_token=_kv_bytes(architecture, header),
        chat_template=bool(template),
        tools="tools" in template,
        embedding_width=_embedding_width(architecture, header),
    )


def _embedding_width(architecture: str, header: gguf.GgufHeader) -> int | None:
    """None where it makes text. A kind of pooling above 0 says that its vectors are what it was made for."""
    if architecture not in _ENCODERS and header.number(f"{architecture}.pooling_type") is None:
        return None
    return header.number(f"{architecture}.embedding_length")


def _kv_bytes(architecture: str, header: gguf.GgufHeader) -> int | None:
    """Σ over layers of kv heads × (key + value length) × 2 bytes; None where the header does not say."""
    layers = header.number(f"{architecture}.block_count")
    heads = header.number(f"{architecture}.attention.head_count")
    width = header.number(f"{architecture}.embedding_length")
    if layers is None or heads is None or width is None or layers > gguf.MAX_NUMBERS:
        return None
    kv_heads = header.numbers(f"{architecture}.attention.head_count_kv", layers) or [heads] * layers
    key = header.number(f"{architecture}.attention.key_length") or width // heads
    value = header.number(f"{architecture}.attention.value_length") or width // heads
    total = sum(kv_heads) * (key + value) * 2
    return total if 0 < total < 2**40 else None


def _require_single(path: Path) -> None:
    if _SPLIT.search(path.name):
        raise BadSource(
            f"{path.name} is one part of a split model",
            suggestion="Join the parts with `llama-gguf-split --merge` and give the path of the result.",
            code="split_weights",
        )


def _unreadable(location: str, error: Exception) -> BadSource:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOENT, errno.ENOTDIR):
        return BadSource(f"there is nothing at {location}", suggestion="Check the path.", code="path_not_found")
    if number in (errno.EACCES, errno.EPERM):
        return BadSource(
            f"{location} may not be read by the user the server runs as",
            suggestion="Make the file readable and every folder above it searchable for that user, or move it.",
            code="path_not_readable",
        )
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return BadSource(f"{location!r} cannot be read: {words}", code="path_not_readable")


def _json(path: Path) -> dict[str, Any]:
    """An object, empty where there is none. Raises BadWeights for what is no JSON object."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise BadWeights(f"{path.name} is not JSON", code="bad_config") from error
    if not isinstance(value, dict):
        raise BadWeights(f"{path.name} is not a JSON object", code="bad_config")
    return value


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_CONFIG + 1)
    if len(data) > _MAX_CONFIG:
        raise BadWeights(f"{path.name} is larger than {_MAX_CONFIG} bytes", code="bad_config")
    return data.decode("utf-8", "replace")


def _word(value: object) -> str | None:
    """A short printable text out of a file that may say anything."""
    if not isinstance(value, str):
        return None
    return "".join(c for c in value if c.isprintable())[:_LONGEST_WORD].strip() or None
