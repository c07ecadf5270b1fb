"""The catalogue: adding, reading, removing."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

from skerry.artifacts.default import DefaultModel
from skerry.artifacts.errors import BadSource, ModelNameTaken, OperatorOnly, UnknownModel
from skerry.artifacts.model import EngineKind, ModelPrices, ModelSource, ModelStatus, NewModel, SourceKind, Upstream
from skerry.artifacts.weights import inspect_gguf
from skerry.kernel.errors import Conflict
from skerry.kernel.paging import PageRequest
from tests.artifacts.gguf_files import write


def upstream(name: str = "far", url: str = "http://far.example", **more) -> NewModel:
    return NewModel(name, ModelSource(SourceKind.UPSTREAM, url, more.pop("upstream_model", None)), **more)


def local(path: Path, name: str = "near") -> NewModel:
    return NewModel(name, ModelSource(SourceKind.PATH, str(path)))


@pytest.fixture
def default(tmp_path: Path) -> DefaultModel:
    path = write(tmp_path / "default.gguf")
    return DefaultModel(path, inspect_gguf(path))


async def test_a_model_from_a_file(catalogue, people, watcher, tmp_path):
    catalogue.observe(watcher)
    model = await catalogue.add_model(people.operator, local(write(tmp_path / "a.gguf")))
    assert model.engine is EngineKind.LLAMACPP
    assert model.context_length == 2048
    assert model.license == "mit"
    assert watcher.added == ["near"]
    assert await catalogue.get_model(people.customer, "near") == model
    assert await catalogue.get_model(people.operator, model.id) == model
    timeline = await catalogue.model_events(people.operator, "near", PageRequest())
    assert [event.type for event in timeline.data] == ["model.created"]


async def test_an_upstream_keeps_its_key_to_itself(catalogue, people, database):
    model = await catalogue.add_model(people.operator, upstream(upstream_key="sk-far-away", upstream_model="gpt"))
    assert model.source.location == "http://far.example/v1"
    assert model.source.has_key
    assert model.upstream_model == "gpt"
    async with database.transaction() as tx:
        row = (await tx.execute(text("SELECT * FROM models"))).one()
        assert "sk-far-away" not in repr(row)
        assert await catalogue.upstream_keys(tx, {model.id}) == {model.id: ("sk-far-away",)}
        everything = await tx.execute(text("SELECT data FROM events UNION ALL SELECT detail FROM audit_events"))
        assert "sk-far-away" not in repr(everything.all())
    await catalogue.remove_model(people.operator, "far")
    async with database.transaction() as tx:
        assert await catalogue.upstream_keys(tx, {model.id}) == {model.id: ("",)}


async def test_several_upstreams_have_keys_and_weights_of_their_own(catalogue, people, database):
    source = ModelSource(
        SourceKind.UPSTREAM,
        "http://one.example",
        upstreams=(Upstream("http://one.example", 95), Upstream("http://two.example/v1/", 5)),
    )
    new = NewModel("pair", source, upstream_keys=(None, "sk-canary"))
    model = await catalogue.add_model(people.operator, new)
    assert model == await catalogue.get_model(people.operator, "pair")
    assert [(one.url, one.weight, one.has_key) for one in model.source.servers] == [
        ("http://one.example/v1", 95, False),
        ("http://two.example/v1", 5, True),
    ]
    async with database.transaction() as tx:
        assert await catalogue.upstream_keys(tx, {model.id}) == {model.id: ("", "sk-canary")}
        assert "sk-canary" not in repr((await tx.execute(text("SELECT * FROM models"))).one())
    await catalogue.remove_model(people.operator, "pair")
    async with database.transaction() as tx:
        assert await catalogue.upstream_keys(tx, {model.id}) == {model.id: ("", "")}
        assert (await catalogue.by_ids(tx, {model.id}))[model.id].source.servers[1].url == "http://two.example/v1"


@pytest.mark.parametrize(
    "upstreams",
    [
        (Upstream("http://a.example", 0),),
        (Upstream("http://a.example"),) * 17,
        (Upstream("http://a.example"), Upstream("ftp://b.example")),
        (Upstream("http://a.example", -1), Upstream("http://b.example")),
    ],
)
async def test_upstreams_that_cannot_be(catalogue, people, upstreams):
    source = ModelSource(SourceKind.UPSTREAM, "http://a.example", upstreams=upstreams)
    with pytest.raises(BadSource):
        await catalogue.add_model(people.operator, NewModel("pair", source))


async def test_prices_go_to_billing_in_the_same_breath(catalogue, people, prices):
    await catalogue.add_model(people.operator, upstream(prices=ModelPrices(Decimal("0.5"), None, Decimal(2))))
    await catalogue.add_model(people.operator, upstream("free"))
    assert prices.set == [("far", {"prompt": Decimal("0.5"), "completion": Decimal(2)})]


async def test_what_an_observer_refuses_never_was(catalogue, people, watcher):
    watcher.refuse = Conflict("no room")
    catalogue.observe(watcher)
    with pytest.raises(Conflict):
        await catalogue.add_model(people.operator, upstream())
    with pytest.raises(UnknownModel):
        await catalogue.get_model(people.operator, "far")


async def test_customers_add_neither_paths_nor_upstreams(catalogue, people, tmp_path):
    for new in (upstream(), local(write(tmp_path / "a.gguf"))):
        with pytest.raises(OperatorOnly):
            await catalogue.add_model(people.customer, new)
    await catalogue.add_model(people.operator, upstream())
    with pytest.raises(OperatorOnly):
        await catalogue.remove_model(people.customer, "far")


async def test_a_bad_path_names_the_field(catalogue, people):
    with pytest.raises(BadSource) as caught:
        await catalogue.add_model(people.operator, local(Path("/nowhere/a.gguf")))
    assert caught.value.errors[0].path == "source.path"


async def test_a_name_is_taken_until_its_model_is_removed(catalogue, people, watcher):
    catalogue.observe(watcher)
    first = await catalogue.add_model(people.operator, upstream())
    with pytest.raises(ModelNameTaken):
        await catalogue.add_model(people.operator, upstream())
    removed = await catalogue.remove_model(people.operator, "far")
    assert removed.status is ModelStatus.REMOVED
    assert watcher.removed == ["far"]
    second = await catalogue.add_model(people.operator, upstream())
    assert second.id != first.id
    assert (await catalogue.get_model(people.operator, "far")).id == second.id
    assert (await catalogue.get_model(people.operator, first.id)).status is ModelStatus.REMOVED
    assert [model.id for model in (await catalogue.list_models(people.customer, PageRequest())).data] == [second.id]
    again = await catalogue.remove_model(people.operator, first.id)
    assert again.status is ModelStatus.REMOVED
    assert watcher.removed == ["far"], "a second removal tells nobody"


async def test_one_of_many_at_once_gets_the_name(catalogue, people):
    tries = [catalogue.add_model(people.operator, upstream()) for _ in range(6)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(result, Exception) for result in results) == 1
    assert all(isinstance(result, ModelNameTaken) for result in results if isinstance(result, Exception))


async def test_pages_of_models(catalogue, people):
    for number in range(5):
        await catalogue.add_model(people.operator, upstream(f"m{number}"))
    first = await catalogue.list_models(people.operator, PageRequest(2))
    second = await catalogue.list_models(people.operator, PageRequest.parse(2, first.next_cursor))
    assert [model.name for model in (*first.data, *second.data)] == ["m0", "m1", "m2", "m3"]
    assert second.has_more


async def test_the_default_model_is_added_once(catalogue, people, default, watcher):
    catalogue.observe(watcher)
    model = await catalogue.ensure_default_model(default)
    assert model.builtin
    assert model.license == "Apache-2.0"
    assert model.context_length == 8192
    assert await catalogue.ensure_default_model(default) is None
    await catalogue.remove_model(people.operator, model.name)
    assert await catalogue.ensure_default_model(default) is None, "the operator did not want it"
    assert await catalogue.ensure_default_model(None) is None
    assert watcher.added == [model.name]


async def test_each_default_model_is_added_once(catalogue, default, people):
    second = replace(default, name="vectors")
    assert await catalogue.ensure_default_model(default)
    assert await catalogue.ensure_default_model(second), "one that came with a newer version"
    await catalogue.remove_model(people.operator, "vectors")
    assert await catalogue.ensure_default_model(second) is None


async def test_several_processes_add_the_default_model_once(catalogue, default, watcher):
    catalogue.observe(watcher)
    added = await asyncio.gather(*(catalogue.ensure_default_model(default) for _ in range(4)))
    assert sum(model is not None for model in added) == 1
    assert len(watcher.added) == 1
