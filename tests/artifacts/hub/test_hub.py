"""Models from a hub: what is taken, what is refused, and what happens when things break."""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.artifacts.errors import (
    BadSource,
    BadWeights,
    EngineUnsupported,
    HubForbids,
    HubUnreachable,
    UnknownHubModel,
)
from skerry.artifacts.hub.client import Hub
from skerry.artifacts.hub.rules import HubRef, choose, read_listing
from skerry.artifacts.model import EngineKind, FetchState, ModelStatus
from skerry.kernel.errors import SkerryError
from tests.artifacts.gguf_files import gguf
from tests.artifacts.hub.fake_hub import COMMIT, FakeHub
from tests.waiting import eventually

GGUF = gguf(body=os.urandom(128) + bytes(200_000))
BERT = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 8, "num_attention_heads": 2,
    "num_hidden_layers": 1, "intermediate_size": 16, "max_position_embeddings": 64, "type_vocab_size": 2,
}  # fmt: skip


# What is taken


async def test_a_gguf_comes_whole_and_is_then_what_it_says(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": GGUF, "README.md": b"# Tiny", "evil.py": b"x", "pytorch_model.bin": b"x"},
            cardData={"license": "apache-2.0"})  # fmt: skip
    model = await shelf.add("org/tiny")
    assert model.status is ModelStatus.DOWNLOADING
    assert model.license == "apache-2.0"
    assert model.fetch.revision == COMMIT
    assert model.fetch.words == "downloading 0 %"
    assert not model.here
    await shelf.step()
    model = await shelf.get()
    assert model.status is ModelStatus.ACTIVE
    assert model.context_length == 2048, "as the file says"
    assert Path(model.facts.file).read_bytes() == GGUF
    assert sorted(path.name for path in (shelf.folder / model.id).iterdir()) == ["README.md", "tiny.gguf"]
    assert await shelf.step() == 0, "nothing is left to do"


async def test_a_bert_checkpoint_is_for_llamacpp(shelf, hub):
    pooling = json.dumps({"pooling_mode_mean_tokens": True}).encode()
    files = {
        "config.json": json.dumps(BERT).encode(),
        "model.safetensors": b"x" * 100,
        "1_Pooling/config.json": pooling,
    }
    hub.put("org/bert", files, config=BERT)
    assert (await shelf.add("org/bert")).engine is EngineKind.LLAMACPP
    await shelf.step()
    model = await shelf.get()
    assert model.here
    assert model.facts.embedding_width == 8
    assert (Path(model.facts.file) / "1_Pooling" / "config.json").read_bytes() == pooling


async def test_a_token_goes_to_the_hub_and_to_nobody_else(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": GGUF})
    elsewhere = FakeHub()
    elsewhere.repos = hub.repos
    hub.redirect_to = elsewhere.url
    try:
        await shelf.add("org/tiny")
        await shelf.step()
    finally:
        elsewhere.close()
    assert (await shelf.get()).here
    assert all(headers["authorization"] == "Bearer hub-token" for _, headers in hub.asked)
    assert elsewhere.asked and all("authorization" not in headers for _, headers in elsewhere.asked)


async def test_what_the_hub_has_is_asked_by_commit(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": GGUF})
    await shelf.add("org/tiny@v1.0")
    await shelf.step()
    assert hub.asked[0][0] == "/api/models/org/tiny/revision/v1.0?blobs=true"
    assert hub.asked[1][0] == f"/org/tiny/resolve/{COMMIT}/tiny.gguf"


# What is refused, at once


@pytest.mark.parametrize(
    ("files", "about", "code"),
    [
        ({"pytorch_model.bin": b"x", "config.json": b"{}"}, {}, "no_weights"),
        ({"a.gguf": GGUF, "b.gguf": GGUF}, {}, "several_weights"),
        ({"m-00001-of-00002.gguf": GGUF}, {}, "split_weights"),
        ({"model.safetensors": b"x"}, {"config": {"auto_map": {"AutoModel": "evil.Model"}}}, "remote_code"),
        ({"model.safetensors": b"x"}, {"config": {"model_type": "llama"}}, "engine_unsupported"),
        ({"a.gguf": GGUF}, {"sha": "main"}, "hub_answer"),
        ({"a.gguf": GGUF}, {"siblings": "x"}, "hub_answer"),
    ],
)
async def test_what_cannot_be_served_is_refused_before_anything_is_downloaded(shelf, hub, files, about, code):
    hub.put("org/tiny", files, **about)
    with pytest.raises((BadSource, BadWeights, EngineUnsupported)) as caught:
        await shelf.add("org/tiny")
    assert caught.value.code == code
    assert len(hub.asked) == 1


@pytest.mark.parametrize("name", ["../evil.gguf", "/etc/x.gguf", "a/b.gguf", "..gguf/../x.gguf", "a\x00.gguf", ".gguf"])
async def test_names_that_lead_elsewhere_are_not_taken(shelf, hub, name):
    hub.put("org/tiny", {name: GGUF})
    with pytest.raises(BadSource) as caught:
        await shelf.add("org/tiny")
    assert caught.value.code == "no_weights"


async def test_no_network_is_said_at_once(shelf, hub):
    hub.close()
    begun = time.monotonic()
    with pytest.raises(HubUnreachable) as caught:
        await shelf.add("org/tiny")
    assert caught.value.code == "hub_unreachable"
    assert caught.value.status == 503
    assert "source.path" in caught.value.suggestion
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("status", "error"), [(401, HubForbids), (403, HubForbids), (404, UnknownHubModel), (500, HubUnreachable)]
)
async def test_what_the_hub_answers_is_said(shelf, hub, status, error):
    hub.status = status
    with pytest.raises(error):
        await shelf.add("org/tiny")


async def test_a_huge_answer_is_not_read_to_its_end(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": GGUF})
    hub.padding = 17 * 1024**2
    with pytest.raises(HubUnreachable, match="longer than"):
        await shelf.add("org/tiny")


async def test_a_file_without_a_checksum_is_not_taken(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": GGUF})
    hub.listed["org/tiny"][0].pop("lfs")
    with pytest.raises(BadWeights) as caught:
        await shelf.add("org/tiny")
    assert caught.value.code == "no_checksum"


@pytest.mark.parametrize(
    "text", ["a", "a/b/c", "../b", "a/..", "a b/c", "a/b@", "a/b:x.bin", "a/b:../x.gguf", "a/b@x/y"]
)
def test_ids_that_are_none(text):
    with pytest.raises(BadSource):
        HubRef.parse(text)


def test_ids_with_a_revision_and_a_file():
    assert HubRef.parse("o/n") == HubRef("o/n", "main", None)
    assert HubRef.parse("o/n@v1:x-q4.gguf") == HubRef("o/n", "v1", "x-q4.gguf")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("a" * 40) | st.just("x.gguf"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["sha", "siblings", "rfilename", "size", "lfs", "sha256", "blobId", "config", "cardData"]),
            inner,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_whatever_a_hub_answers_is_taken_or_refused(answer):
    try:
        choose(read_listing(answer), HubRef("o/n"), None)
    except SkerryError as error:
        assert error.detail


# What breaks in the middle


async def test_a_cut_connection_is_taken_up_where_it_broke_off(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": GGUF})
    await shelf.add("org/tiny")
    hub.cut_after = 90_000
    await shelf.step()
    model = await shelf.get()
    assert model.fetch.words.startswith("downloading 44 %: the hub broke off after 90000 of")
    await shelf.step(shelf.new_fetcher())
    hub.cut_after = None
    await shelf.step()
    assert Path((await shelf.get()).facts.file).read_bytes() == GGUF
    ranges = [headers.get("range") for path, headers in hub.asked if "resolve" in path]
    assert ranges == [None, "bytes=90000-", "bytes=180000-"]


async def test_a_hub_without_ranges_begins_anew(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": GGUF})
    await shelf.add("org/tiny")
    hub.cut_after = 90_000
    await shelf.step()
    hub.cut_after, hub.ranges = None, False
    await shelf.step()
    assert Path((await shelf.get()).facts.file).read_bytes() == GGUF


async def test_a_wrong_checksum_is_never_served(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": GGUF})
    hub.repos["org/tiny"]["tiny.gguf"] = GGUF[:-1] + b"!"
    await shelf.add("org/tiny")
    await shelf.step()
    model = await shelf.get()
    assert (model.status, model.fetch.code) == (ModelStatus.DOWNLOADING, "checksum_mismatch")
    await shelf.step()
    await shelf.step()
    model = await shelf.get()
    assert (model.status, model.fetch.code) == (ModelStatus.FAILED, "checksum_mismatch")
    assert not Path(model.facts.file).exists()
    assert await shelf.step() == 0


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x" * 50])
async def test_a_wrong_size_is_never_served(shelf, hub, change):
    hub.put("org/tiny", {"tiny.gguf": GGUF})
    hub.repos["org/tiny"]["tiny.gguf"] = change(GGUF)
    await shelf.add("org/tiny")
    for _ in range(3):
        await shelf.step()
    model = await shelf.get()
    assert not model.here
    assert not Path(model.facts.file).exists()


async def test_a_small_file_that_was_changed_is_found_out(shelf, hub):
    files = {"config.json": json.dumps(BERT).encode(), "model.safetensors": b"x" * 100}
    hub.put("org/bert", files, config=BERT)
    hub.repos["org/bert"]["config.json"] = files["config.json"].replace(b"BertModel", b"EvilModel")
    await shelf.add("org/bert")
    await shelf.step()
    assert (await shelf.get()).fetch.code == "checksum_mismatch"


async def test_code_that_only_the_files_ask_for_is_found_out(shelf, hub):
    config = json.dumps({**BERT, "auto_map": {"AutoModel": "evil.Model"}}).encode()
    hub.put("org/bert", {"config.json": config, "model.safetensors": b"x" * 100}, config=BERT)
    await shelf.add("org/bert")
    await shelf.step()
    model = await shelf.get()
    assert (model.status, model.fetch.code) == (ModelStatus.FAILED, "remote_code")


async def test_a_full_disk_is_named_and_waited_for(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": GGUF})
    await shelf.add("org/tiny")
    await shelf.step(shelf.new_fetcher(keep_free=1 << 60))
    model = await shelf.get()
    assert (model.status, model.fetch.code) == (ModelStatus.DOWNLOADING, "no_disk_room")
    await shelf.step()
    assert (await shelf.get()).here


async def test_progress_is_told_while_it_comes(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": gguf(body=bytes(4 * 1024**2))})
    await shelf.add("org/tiny")
    hurried = shelf.new_fetcher(slice_seconds=0.0)
    seen = []
    for _ in range(10):
        await shelf.step(hurried)
        seen.append((await shelf.get()).fetch.done)
        if (await shelf.get()).here:
            break
    assert seen == sorted(seen) and len(set(seen)) > 2
    assert (await shelf.get()).here


async def test_a_removed_models_files_go(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": GGUF})
    model = await shelf.add("org/tiny")
    await shelf.step()
    folder = shelf.folder / model.id
    assert folder.exists()
    await shelf.catalogue.remove_model(shelf.people.operator, "m")
    await shelf.step()
    assert not folder.exists()
    assert (await shelf.get(model.id)).fetch.state is FetchState.GONE
    assert await shelf.step() == 0


async def test_a_removal_in_the_middle_is_noticed(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": GGUF})
    model = await shelf.add("org/tiny")
    hub.cut_after = 1000
    await shelf.step()
    await shelf.catalogue.remove_model(shelf.people.operator, "m")
    await shelf.step()
    assert not (shelf.folder / model.id).exists()


PROGRAM = """
import sys, time
from pathlib import Path
from skerry.artifacts.hub.client import Hub
from skerry.artifacts.hub.download import Download
from skerry.artifacts.hub.rules import HubFile
url, folder, size, sha = sys.argv[1:]
file = HubFile("tiny.gguf", int(size), sha)
Download(Hub(url), Path(folder), 0).run("org/tiny", "a" * 40, file, time.monotonic() + 60)
"""


async def test_a_kill_in_the_middle_leaves_nothing_that_looks_whole(shelf, hub):
    hub.put("org/tiny", {"tiny.gguf": gguf(body=os.urandom(3 * 1024**2))})
    data = hub.repos["org/tiny"]["tiny.gguf"]
    model = await shelf.add("org/tiny")
    folder = shelf.folder / model.id
    folder.mkdir(parents=True)
    hub.pause = threading.Event()
    sha = hub.listed["org/tiny"][0]["lfs"]["sha256"]
    arguments = (hub.url, str(folder), str(len(data)), sha)
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, *arguments)
    part = folder / "tiny.gguf.part"
    await eventually(lambda: part.exists() and part.stat().st_size >= 1024**2)
    child.send_signal(signal.SIGKILL)
    await child.wait()
    hub.pause.set()
    assert not (folder / "tiny.gguf").exists()
    hub.pause = None
    await shelf.step()
    assert (folder / "tiny.gguf").read_bytes() == data
    last = [headers.get("range") for path, headers in hub.asked if "resolve" in path][-1]
    assert last is not None, "it was taken up, not begun anew"


def test_a_hub_that_leads_in_circles_is_left(hub):
    hub.put("org/tiny", {"tiny.gguf": GGUF})
    hub.redirect_to = ""
    hub.redirect_to = hub.url
    with pytest.raises(HubUnreachable, match="circles"), Hub(hub.url).file("org/tiny", COMMIT, "tiny.gguf", 0):
        pass
