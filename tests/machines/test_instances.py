"""Instances over HTTP, from asking to their end."""

from tests.machines.scene import KEY

BODY = {"name": "box", "ssh_keys": [KEY], "accelerators": 2, "home_bytes": 1 << 20}


async def made(customer, **more):
    answer = await customer.post("/api/v1/instances", json={**BODY, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_it_starts_runs_stops_starts_again_and_is_terminated(scene, customer):
    box = await made(customer)
    assert (box["status"], box["sku"], box["site"]) == ("pending", "local", "local")
    await scene.settle()
    at = f"/api/v1/instances/{box['id']}"
    assert (await customer.get(at)).json()["status"] == "starting"
    await scene.come_up(box["workload_id"])
    up = (await customer.get("/api/v1/instances/box")).json()
    assert (up["status"], up["status_reason"]["code"], up["node"]) == ("running", "ready", "local-1")
    assert up["ssh"]["command"] == "ssh -p 22000 root@127.0.0.1"
    assert up["ssh"]["host_key"].startswith("ssh-ed25519 AAAA")

    assert (await customer.post(f"{at}/stop")).json()["status"] == "stopping"
    await scene.settle()
    assert (await customer.get(at)).json()["status"] == "stopping"
    await scene.go_down(box["workload_id"])
    down = (await customer.get(at)).json()
    assert (down["status"], down["ssh"], down["home_volume"]) == ("stopped", None, up["home_volume"])

    assert (await customer.post(f"{at}/start")).status_code == 200
    await scene.settle()
    await scene.come_up(box["workload_id"])
    again = (await customer.get(at)).json()
    assert (again["status"], again["ssh"]["host_key"]) == ("running", up["ssh"]["host_key"])

    assert (await customer.post(f"{at}/terminate")).status_code == 200
    await scene.settle()
    await scene.go_down(box["workload_id"])
    gone = (await customer.get(at)).json()
    assert gone["status"] == "terminated" and gone["ended_at"]
    events = [event["type"] for event in (await customer.get(f"{at}/events")).json()["data"]]
    states = [type for type in events if type.partition(".")[2] in ("running", "stopped", "terminated")]
    assert states == ["instance.running", "instance.stopped"] * 2 + ["instance.terminated"]
    assert (await customer.get("/api/v1/instances")).json()["data"] == []
