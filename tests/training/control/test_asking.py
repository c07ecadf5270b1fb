"""What is refused before anything is made of a job, each with a name and the field."""

from pathlib import Path

import pytest

from skerry.artifacts.files.errors import UnknownFile
from skerry.capacity.errors import UnknownReservation
from skerry.kernel.classes import CapacityClass
from skerry.kernel.errors import Unavailable
from skerry.training.asking import shared_folder
from skerry.training.errors import BadJob
from skerry.training.spec import Launcher
from tests.training.control.conftest import ask


async def upload(world, purpose: str, who=None) -> str:
    async def chunks():
        yield b"bytes"

    file = await world.files.create(who or world.customer, filename="a.tar.gz", purpose=purpose, chunks=chunks())
    return file.id


async def test_each_refusal_names_the_field_and_why(world):
    wishes = {
        ("command", "no_script"): {"command": ("torchrun",)},
        ("tasks_per_node", "count_differs"): {
            "command": ("torchrun", "--nproc-per-node=4", "t.py"),
            "tasks_per_node": 2,
        },
        ("nodes", "count_differs"): {"command": ("torchrun", "--nnodes", "3", "t.py"), "nodes": 2},
        ("sku", "unknown_sku"): {"sku": "h100-sxm.8x"},
        ("accelerators_per_task", "too_many_accelerators"): {"accelerators_per_task": 8},
        ("tasks_per_node", "too_many_accelerators"): {"tasks_per_node": 3, "accelerators_per_task": 2},
        ("nodes", "too_many_nodes"): {"nodes": 3},
        ("env.1BAD", "bad_name"): {"env": {"1BAD": "x"}},
        ("env.RANK", "reserved_name"): {"env": {"RANK": "0"}},
        ("env.SKERRY_X", "reserved_name"): {"env": {"SKERRY_X": "0"}},
        ("env.OK", "unstorable_text"): {"env": {"OK": "a\0b"}},
        ("max_cost", "invalid_value"): {"max_cost": "-1"},
        ("checkpoint_dir", "bad_path"): {"checkpoint_dir": "/etc/x"},
        ("reservation_id", "missing"): {"capacity_class": CapacityClass.RESERVED},
        ("source", "unknown_source"): {"source": "no/such"},
    }
    for (path, code), wish in wishes.items():
        with pytest.raises(BadJob) as refused:
            await world.jobs.estimate(world.customer, ask(**wish))
        assert (refused.value.errors[0].path, refused.value.code) == (path, code), wish
    async with world.db.reading() as tx:
        assert await world.jobs._work.count_open(tx, world.customer.project_id) == 0


async def test_a_plain_command_needs_no_counts(world):
    wish = {"command": ("./start.sh", "--nnodes=9"), "launcher": Launcher.NONE}
    assert (await world.jobs.estimate(world.customer, ask(**wish))).accelerators == 1


async def test_what_is_another_s_is_not_there(world):
    with pytest.raises(UnknownReservation):
        await world.jobs.estimate(world.customer, ask(reservation_id="res_other"))
    with pytest.raises(UnknownFile):
        await world.jobs.estimate(world.customer, ask(source=await upload(world, "source", world.people.operator)))
    with pytest.raises(BadJob) as refused:
        await world.jobs.estimate(world.customer, ask(source=await upload(world, "batch")))
    assert refused.value.code == "wrong_purpose"


async def test_code_that_cannot_be_kept_apart_is_not_taken(world):
    world.isolation.available = False
    with pytest.raises(Unavailable) as refused:
        await world.jobs.create(world.customer, ask())
    assert refused.value.code == "isolation_unavailable"


async def test_the_estimate_is_by_the_hour_and_at_most(world):
    estimate = await world.jobs.estimate(world.customer, ask(nodes=2, tasks_per_node=2, max_duration_seconds=1800))
    assert estimate.accelerators == 4
    assert estimate.hour.amount > 0
    assert estimate.most.amount == estimate.hour.amount / 2
    capped = await world.jobs.estimate(world.customer, ask(max_duration_seconds=10**6, max_cost="0.01"))
    assert str(capped.most.amount) == "0.01"


@pytest.mark.parametrize("wanted", ["../other", "/etc", "out", "a/../../other", "missing", ".", "a/file", "x\0y"])
def test_a_path_never_leads_out_of_the_project_s_folder(tmp_path: Path, wanted):
    own = tmp_path / "proj_1"
    (own / "a").mkdir(parents=True)
    (own / "a" / "file").write_text("")
    (tmp_path / "other").mkdir()
    (own / "out").symlink_to(tmp_path / "other")
    with pytest.raises(BadJob):
        shared_folder(tmp_path, "proj_1", wanted)


def test_a_folder_inside_is_found_by_either_name(tmp_path: Path):
    (tmp_path / "proj_1" / "a" / "b").mkdir(parents=True)
    (tmp_path / "proj_1" / "link").symlink_to("a/b")
    for wanted in ("a/b", "link", str(tmp_path / "proj_1" / "a" / "b")):
        assert shared_folder(tmp_path, "proj_1", wanted).path == "a/b"
