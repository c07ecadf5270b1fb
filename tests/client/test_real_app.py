"""The client against the real control API, in this process, on a real database."""

from datetime import timedelta

import httpx
import pytest

from skerry.client import AsyncSkerry, Forbidden, Invalid, NotFound, Retries, Unauthorized
from skerry.kernel.clock import FakeClock
from tests.server.conftest import Cloud, cloud, services, settings

__all__ = ["cloud", "services", "settings"]


@pytest.fixture
def connect(cloud: Cloud):
    def client(key: str, **options) -> AsyncSkerry:
        transport = httpx.ASGITransport(cloud.app, raise_app_exceptions=False)
        return AsyncSkerry("http://cloud", key, transport=transport, retries=Retries(tries=1), **options)

    return client


async def test_the_life_of_a_key(connect, cloud: Cloud, clock: FakeClock):
    async with connect(cloud.project_key) as client:
        me = await client.whoami()
        assert (me.organization, me.project, me.operator) == ("demo", "default", False)
        made = await client.keys.create(
            "ci",
            scopes=["read"],
            expires_at=clock.now() + timedelta(days=1),
            limits={"requests_per_minute": 5},
        )
        assert made.key is not None
        assert made.limits is not None
        assert made.limits.requests_per_minute == 5
        rotated = await client.keys.rotate(made.id)
        assert rotated.key not in (None, made.key)
        listed = {key.id: key async for key in client.keys.list(limit=1)}
        assert listed[made.id].status == "active"
        assert len(listed) > 1
        await client.keys.revoke(made.id)
        assert (await client.keys.get(made.id)).status == "revoked"
        with pytest.raises(NotFound):
            await client.keys.get("key_none")
        with pytest.raises(Invalid) as refused:
            await client.keys.create("x", scopes=["nonsense"])
        assert refused.value.errors
        actions = [event.action async for event in client.audit.list(resource=made.id)]
        assert actions[:1] == ["api_key.create"]
    async with connect(rotated.key) as client:
        with pytest.raises(Unauthorized) as late:
            await client.whoami()
        assert late.value.code == "revoked_key"


async def test_operators_act_on_any_project(connect, cloud: Cloud):
    async with connect(cloud.operator_key) as operator:
        await operator.organizations.create("acme")
        project = await operator.projects.create("lab", organization="acme", jurisdictions=["NO"])
        assert (project.organization, project.jurisdictions) == ("acme", ("NO",))
        assert "acme" in [organization.name async for organization in operator.organizations.list()]
        member = await operator.members.add("a@b.no", role="viewer", organization="acme")
        assert [found.id async for found in operator.members.list(organization="acme")] == [member.id]
        assert (await operator.audit.verify(organization="acme")).intact
    async with connect(cloud.operator_key, project="acme/lab") as operator:
        assert (await operator.whoami()).project_id == project.id
    async with connect(cloud.project_key) as customer:
        with pytest.raises(Forbidden):
            await customer.organizations.create("another")


async def test_health(connect):
    async with connect("") as anybody:
        assert (await anybody.status.alive()).ready
        assert (await anybody.status.ready()).status in ("ready", "not_ready")
