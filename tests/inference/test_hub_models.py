"""An endpoint whose weights are still on their way."""

import asyncio

from skerry.artifacts.hub.client import Hub
from skerry.artifacts.hub.fetcher import ModelFetcher
from skerry.artifacts.model import EngineKind, ModelSource, NewModel, SourceKind
from skerry.artifacts.service import HubHere
from skerry.inference.model import EndpointStatus
from tests.artifacts.gguf_files import gguf
from tests.artifacts.hub.fake_hub import FakeHub


async def test_an_endpoint_says_how_far_the_download_is_and_starts_when_it_is_over(cloud, compute):
    hub = FakeHub()
    hub.put("org/tiny", {"tiny.gguf": gguf(body=bytes(200_000))})
    catalogue, folder = cloud.inference.catalogue, cloud.tmp_path / "models"
    catalogue.hub = HubHere(Hub(hub.url), folder)
    fetcher = ModelFetcher(
        catalogue.db, cloud.clock, Hub(hub.url), folder, keep_free=0, engines=[EngineKind.LLAMACPP], slice_seconds=5
    )

    async def fetch() -> None:
        cloud.clock.advance(seconds=100)
        for row in await fetcher.claim(10):
            await fetcher.apply(row, await fetcher.step(row))

    try:
        new = NewModel("near", ModelSource(SourceKind.HUB, "org/tiny"))
        await catalogue.add_model(cloud.people.operator, new)
        hub.cut_after = 100_000
        await fetch()
        await cloud.reconcile()
        endpoint = (await cloud.endpoint()).endpoint
        assert endpoint.status is EndpointStatus.STARTING
        assert endpoint.reason.message.startswith("Downloading 4")
        assert not compute.workloads, "nothing is started that could only fail"
        hub.cut_after = None
        await fetch()
        cloud.clock.advance(seconds=100)
        await cloud.reconcile()
        assert str(folder) in repr(dict(compute.only.spec.env))
    finally:
        await asyncio.to_thread(hub.close)


async def test_an_endpoint_whose_model_cannot_be_had_has_failed(cloud, compute):
    hub = FakeHub()
    hub.put("org/tiny", {"tiny.gguf": gguf()})
    hub.repos["org/tiny"]["tiny.gguf"] = bytes(len(gguf()))
    catalogue, folder = cloud.inference.catalogue, cloud.tmp_path / "models"
    catalogue.hub = HubHere(Hub(hub.url), folder)
    fetcher = ModelFetcher(catalogue.db, cloud.clock, Hub(hub.url), folder, keep_free=0, engines=[EngineKind.LLAMACPP])
    try:
        await catalogue.add_model(cloud.people.operator, NewModel("near", ModelSource(SourceKind.HUB, "org/tiny")))
        for _ in range(3):
            cloud.clock.advance(seconds=100)
            for row in await fetcher.claim(10):
                await fetcher.apply(row, await fetcher.step(row))
        await cloud.reconcile()
        endpoint = (await cloud.endpoint()).endpoint
        assert endpoint.status is EndpointStatus.FAILED
        assert "checksum" in endpoint.reason.message
        assert not compute.workloads
    finally:
        await asyncio.to_thread(hub.close)
