"""Files that prices are written in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.cli.failures import wrong_use


def json_object(file: Path, names: set[str]) -> Mapping[str, Any]:
    """What a file holds; only these names may be in it."""
    try:
        body = json.loads(file.read_text())
    except OSError as error:
        raise wrong_use(f"{file} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise wrong_use(f"{file} is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise wrong_use(f"{file} does not hold a JSON object.")
    if unknown := sorted(body.keys() - names):
        raise wrong_use(f"{file}: {unknown[0]!r} means nothing here.", f"There are {', '.join(sorted(names))}.")
    return body
