"""What is taken from a model hub, and what never is. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from skerry.artifacts.errors import BadSource, BadWeights
from skerry.artifacts.model import EngineKind
from skerry.kernel.errors import FieldError

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SHA1: Final = re.compile(r"[0-9a-f]{40}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_BESIDE: Final = frozenset(
    {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    | {"vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json", "chat_template.jinja"}
    | {"chat_template.json", "model.safetensors.index.json", "modules.json", "sentence_bert_config.json"}
    | {"preprocessor_config.json", "processor_config.json", "1_Pooling/config.json", "README.md", "LICENSE"}
)
"""Small files without code that a checkpoint needs."""
MAX_SMALL: Final = 64 * 1024**2
"""Bytes of a file that is no weights: a large tokenizer has about 35 MB."""
MAX_FILES: Final = 1000
MAX_LISTED: Final = 20_000
"""Files that a repository may have."""
_SPLIT: Final = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


@dataclass(frozen=True, slots=True)
class HubRef:
    """`owner/name`, `owner/name@revision`, `owner/name:file.gguf`, or both."""

    id: str
    revision: str = "main"
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubRef":
        """Raises BadSource."""
        head, colon, file = text.partition(":")
        id, at, revision = head.partition("@")
        if not _ID.fullmatch(id) or ".." in id:
            raise _bad(f"{text[:100]!r} is no id of a hub: it is owner/name", "bad_hub_id")
        if at and not _REVISION.fullmatch(revision):
            raise _bad(f"{revision[:100]!r} is no revision", "bad_hub_id")
        if colon and not (_NAME.fullmatch(file) and file.endswith(".gguf")):
            raise _bad(f"{file[:100]!r} is no GGUF file of a repository", "bad_hub_id")
        return cls(id, revision if at else "main", file if colon else None)


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file to download. `sha256` is known of large ones, `sha1` (git's, of a blob) of the others."""

    name: str
    size: int
    sha256: str | None = None
    sha1: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "size": self.size, "sha256": self.sha256, "sha1": self.sha1}

    @classmethod
    def of(cls, value: dict[str, Any]) -> "HubFile":
        return cls(value["name"], value["size"], value["sha256"], value["sha1"])


@dataclass(frozen=True, slots=True)
class Listing:
    """What a hub says of a repository at one commit."""

    commit: str
    files: tuple[HubFile, ...]
    license: str | None
    remote_code: bool
    bert: bool


def read_listing(answer: object) -> Listing:
    """Of `GET /api/models/{id}/revision/{rev}?blobs=true`. Raises BadWeights for what is none."""
    if not isinstance(answer, dict):
        raise _not_a_listing("it is no object")
    commit, siblings = answer.get("sha"), answer.get("siblings")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise _not_a_listing("it names no commit")
    if not isinstance(siblings, list) or len(siblings) > MAX_LISTED:
        raise _not_a_listing("it has no list of files, or too long a one")
    config, license = _object(answer, "config"), _object(answer, "cardData").get("license")
    return Listing(
        commit=commit,
        files=tuple(file for one in siblings if (file := _file(one)) is not None),
        license=license[:100] if isinstance(license, str) and license.isprintable() and license else None,
        remote_code=bool(config.get("auto_map")),
        bert=config.get("model_type") == "bert",
    )


def choose(listing: Listing, ref: HubRef, wanted: EngineKind | None) -> tuple[EngineKind, tuple[HubFile, ...]]:
    """The engine that could serve it, and the files that are needed. Raises BadSource, BadWeights."""
    if listing.remote_code:
        raise BadWeights(
            f"{ref.id} asks for code of its own to be run ('auto_map'), which is never done",
            suggestion="Use a variant of the model for which transformers has the classes itself.",
            code="remote_code",
        )
    ggufs = [file for file in listing.files if file.name.endswith(".gguf")]
    tensors = [file for file in listing.files if file.name.endswith(".safetensors")]
    if ref.file is not None:
        return EngineKind.LLAMACPP, (_named(ggufs, ref), *_card(listing))
    if ggufs and (not tensors or wanted is EngineKind.LLAMACPP):
        if len(ggufs) > 1:
            names = ", ".join(file.name for file in ggufs[:8])
            raise _bad(f"{ref.id} has {len(ggufs)} GGUF files: {names}", "several_weights", f"Add {ref.id}:FILE.gguf.")
        return EngineKind.LLAMACPP, (_whole(ggufs[0]), *_card(listing))
    if not tensors:
        raise _bad(
            f"{ref.id} has neither a .gguf file nor safetensors",
            "no_weights",
            "Pickled weights (.bin, .pt, .ckpt) are never loaded.",
        )
    beside = [file for file in listing.files if file.name in _BESIDE]
    for file in beside:
        if file.size > MAX_SMALL:
            raise BadWeights(f"{file.name} has {file.size} bytes; at most {MAX_SMALL} are taken", code="too_large")
    if len(tensors) + len(beside) > MAX_FILES:
        raise BadWeights(f"{ref.id} has more than {MAX_FILES} files", code="too_large")
    engine = EngineKind.LLAMACPP if listing.bert else EngineKind.VLLM
    return engine, (*sorted(beside, key=lambda file: file.size), *map(_whole, tensors))


def _object(answer: dict[str, Any], name: str) -> dict[str, Any]:
    value = answer.get(name)
    return value if isinstance(value, dict) else {}


def _file(value: object) -> HubFile | None:
    """None for whatever is not taken: code, pickles, folders of other formats, names that lead elsewhere."""
    if not isinstance(value, dict):
        return None
    name, size, lfs = value.get("rfilename"), value.get("size"), value.get("lfs")
    if not isinstance(name, str) or isinstance(size, bool) or not isinstance(size, int) or size < 0:
        return None
    weights = _NAME.fullmatch(name) and name.endswith((".gguf", ".safetensors"))
    if not weights and name not in _BESIDE:
        return None
    sha256 = lfs.get("sha256") if isinstance(lfs, dict) else None
    sha1 = value.get("blobId")
    return HubFile(
        name,
        size,
        sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None,
        sha1 if not isinstance(lfs, dict) and isinstance(sha1, str) and _SHA1.fullmatch(sha1) else None,
    )


def _named(ggufs: Sequence[HubFile], ref: HubRef) -> HubFile:
    for file in ggufs:
        if file.name == ref.file:
            return _whole(file)
    raise _bad(f"{ref.id} has no file {ref.file}", "no_weights")


def _whole(file: HubFile) -> HubFile:
    """Raises where it cannot be verified, or is a part."""
    if _SPLIT.search(file.name):
        raise _bad(f"{file.name} is one part of a split model", "split_weights", "Choose a file that is whole.")
    if file.sha256 is None:
        raise BadWeights(f"the hub gives no checksum for {file.name}", code="no_checksum")
    return file


def _card(listing: Listing) -> list[HubFile]:
    return [file for file in listing.files if file.name == "README.md" and file.size <= MAX_SMALL]


def _bad(words: str, code: str, suggestion: str = "") -> BadSource:
    return BadSource(words, code=code, suggestion=suggestion, errors=[FieldError("source.hub", code, words)])


def _not_a_listing(why: str) -> BadWeights:
    return BadWeights(f"the hub's answer is not understood: {why}", code="hub_answer")
