"""A catalogue that takes models from a hub on loopback, and the loop that downloads them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.artifacts.hub.client import Hub
from skerry.artifacts.hub.fetcher import ModelFetcher
from skerry.artifacts.model import EngineKind, ModelSource, NewModel, SourceKind
from skerry.artifacts.service import Catalogue, HubHere
from tests.artifacts.conftest import catalogue, events, identity, keyring, people, prices  # noqa: F401
from tests.artifacts.hub.fake_hub import FakeHub

ENGINES = (EngineKind.LLAMACPP, EngineKind.EXTERNAL)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    made = FakeHub()
    yield made
    made.close()


class Shelf:
    """Verbs for tests."""

    def __init__(self, catalogue: Catalogue, people, hub: FakeHub, folder: Path) -> None:  # noqa: F811
        self.catalogue, self.people, self.hub, self.folder = catalogue, people, hub, folder
        self.fetcher = self.new_fetcher()

    def new_fetcher(self, **changes) -> ModelFetcher:
        """As another controller makes it: it remembers nothing."""
        values = {"keep_free": 0, "engines": ENGINES, "slice_seconds": 5.0, **changes}
        return ModelFetcher(
            self.catalogue.db, self.catalogue.clock, Hub(self.hub.url, "hub-token"), self.folder, **values
        )

    async def add(self, location: str, name: str = "m", **more):
        new = NewModel(name, ModelSource(SourceKind.HUB, location), **more)
        return await self.catalogue.add_model(self.people.operator, new)

    async def get(self, name: str = "m"):
        return await self.catalogue.get_model(self.people.operator, name)

    async def step(self, fetcher: ModelFetcher | None = None) -> int:
        """One look at what is due; how many rows there were. An hour passes first, so that every pause is over."""
        self.catalogue.clock.advance(seconds=3600)
        fetcher = fetcher or self.fetcher
        rows = await fetcher.claim(10)
        for row in rows:
            await fetcher.apply(row, await fetcher.step(row))
        return len(rows)


@pytest.fixture
def shelf(catalogue, people, hub, tmp_path) -> Shelf:  # noqa: F811
    catalogue.hub = HubHere(Hub(hub.url, "hub-token"), tmp_path / "models")
    return Shelf(catalogue, people, hub, tmp_path / "models")
