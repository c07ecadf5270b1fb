"""A newcomer, whose cloud is always stopped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.newcomer import Newcomer


@pytest.fixture
def newcomer(short_tmp: Path, request: pytest.FixtureRequest) -> Iterator[Newcomer]:
    folder = short_tmp / request.node.name[-12:]
    folder.mkdir()
    person = Newcomer(folder)
    yield person
    person.leave()
