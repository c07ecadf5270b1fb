"""Volumes over HTTP: made, attached, metered, wiped."""

import json
import os
import subprocess
import sys

from skerry.artifacts.volumes import prepare, wipe
from skerry.compute.model import Outcome
from skerry.metering.model import Meter
from tests.machines.scene import KEY

MIB = 1 << 20
BOX = {"name": "box", "ssh_keys": [KEY], "home_bytes": 1 << 20}


async def volume(customer, name="data", **more):
    answer = await customer.post("/api/v1/volumes", json={"name": name, "bytes": 4 * MIB, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def storage(scene, project):
    await scene.services.metering.roll_up_once()
    query = scene.services.metering.query("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", ["resource"])
    async with scene.services.db.reading() as tx:
        rows = await scene.services.metering.rollups(tx, project, query)
    return {row.groups["resource"]: row.quantity for row in rows if row.meter is Meter.STORAGE_BYTE_SECONDS}


async def test_a_volume_is_metered_by_the_hour_and_to_its_end(scene, customer):
    made = await volume(customer)
    project = (await customer.get("/api/v1/whoami")).json()["project_id"]
    scene.clock.advance(hours=2, minutes=30)
    await scene.settle()
    assert await storage(scene, project) == {made["id"]: made["bytes"] * 7200}
    gone = (await customer.delete("/api/v1/volumes/data")).json()
    assert gone["status"] == "deleting"
    scene.clock.advance(hours=5)
    await scene.settle()
    assert await storage(scene, project) == {made["id"]: made["bytes"] * 9000}
    again = (await customer.get(f"/api/v1/volumes/{made['id']}")).json()
    assert (again["status"], again["wipe"]["how"]) == ("deleted", "never_used")


async def test_an_attached_volume_stays_and_is_wiped_afterwards(scene, customer):
    made = await volume(customer)
    body = {**BOX, "volumes": [{"volume": "data", "target": "/data"}]}
    box = (await customer.post("/api/v1/instances", json=body)).json()
    assert box["volumes"] == [{"volume": "data", "target": "/data", "read_only": False}]
    refused = await customer.delete("/api/v1/volumes/data")
    assert (refused.status_code, refused.json()["code"]) == (409, "volume_in_use")
    second = await customer.post("/api/v1/instances", json={**body, "name": "other"})
    assert (second.status_code, second.json()["errors"][0]["path"]) == (409, "volumes.0")

    await scene.settle()
    given = json.loads(scene.gang(box["workload_id"]).files["instance.json"])
    assert given["volumes"][0]["path"].endswith(made["id"])
    assert given["home"]["bytes"] == 1 << 20
    await customer.post("/api/v1/instances/box/terminate")
    await scene.settle()
    await scene.go_down(box["workload_id"])
    assert (await customer.get("/api/v1/volumes/data")).json()["attached_to"] == []

    await customer.delete("/api/v1/volumes/data")
    await scene.settle()
    assert (await customer.get(f"/api/v1/volumes/{made['id']}")).json()["status_reason"]["code"] == "wiping"
    await scene.settle()
    wiping = (await customer.get(f"/api/v1/workloads?resource={made['id']}")).json()["data"][0]
    attempt = scene.gang(wiping["id"]).attempt
    scene.engine.report(attempt, {"files": 3, "bytes": 4096})
    scene.engine.end(attempt, Outcome.SUCCEEDED, exit_code=0, message="exit code 0")
    await scene.look()
    wiped = (await customer.get(f"/api/v1/volumes/{made['id']}")).json()
    assert (wiped["status"], wiped["wipe"]["files"], wiped["wipe"]["node"]) == ("deleted", 3, "local-1")


async def test_a_volume_that_is_too_large_is_refused_with_what_is_left(customer):
    answer = await customer.post("/api/v1/volumes", json={"name": "huge", "bytes": 1 << 43})
    assert (answer.status_code, answer.json()["code"]) == (507, "no_volume_room")
    assert answer.json()["free_bytes"] < 1 << 43
    tier = await customer.post("/api/v1/volumes", json={"name": "fast", "bytes": MIB, "tier": "gold"})
    assert tier.status_code == 422 and tier.json()["errors"][0]["path"] == "tier"


def test_folders_are_made_and_removed_where_they_lie(tmp_path):
    files, root = tmp_path / "files", tmp_path / "volumes"
    files.mkdir()
    project, id = "proj_" + "0" * 26, "vol_" + "1" * 26
    place = {"root": str(root), "project": project, "volume": id}
    (files / "volumes.json").write_text(json.dumps([{**place, "bytes": 4096, "home": True, "members": 2}]))
    (files / "wipe.json").write_text(json.dumps(place))
    report = tmp_path / "report"
    env = {**os.environ, "SKERRY_FILES": str(files), "SKERRY_REPORT": str(report)}
    made = _run(prepare.__file__, "json.tool", "--help", env=env)
    assert made.returncode == 0 and id in made.stderr
    assert sorted(one.name for one in (root / project / id).iterdir()) == ["0", "1"]
    (root / project / id / "0" / "note").write_text("kept")
    (root / project / f"{id}.img").write_text("beside")
    (root / project / "vol_other").mkdir()
    assert _run(wipe.__file__, env=env).returncode == 0
    assert [one.name for one in (root / project).iterdir()] == ["vol_other"]
    assert json.loads(report.read_text())["files"] == 2

    (files / "wipe.json").write_text(json.dumps({**place, "volume": ".."}))
    assert _run(wipe.__file__, env=env).returncode == 1
    assert (root / project / "vol_other").is_dir()


def _run(program, *arguments, env):
    return subprocess.run([sys.executable, program, *arguments], env=env, capture_output=True, text=True, check=False)
