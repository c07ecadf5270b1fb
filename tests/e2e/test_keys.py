"""Keys end when they should: revoked, expired, rotated, or with their budget."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import openai
import pytest

from tests.cloud import Cloud, eventually_equal
from tests.e2e.conftest import SCRIPTED
from tests.e2e.scripted import FakeUpstream

pytestmark = pytest.mark.cloud

ASK = [{"role": "user", "content": "Hello"}]
TOLD_SECONDS = 4.0
"""Gateways are told of changes at once; without that they would ask after five seconds."""
SHOWN_SECONDS = 30.0


def test_revoked_key_is_refused_at_once(cloud: Cloud, upstream: FakeUpstream) -> None:
    key = cloud.new_key("short-lived")
    assert _refusal(cloud, key["key"]) is None
    assert cloud.delete(f"/api/v1/api-keys/{key['id']}").status_code in (200, 204)
    eventually_equal(lambda: _refusal(cloud, key["key"]), (401, "revoked_key"), TOLD_SECONDS)
    assert cloud.get("/api/v1/whoami", key["key"]).status_code == 401


def test_expired_key_is_refused(cloud: Cloud, upstream: FakeUpstream) -> None:
    at = datetime.now(UTC) + timedelta(seconds=4)
    key = cloud.new_key("ends soon", expires_at=at.isoformat())["key"]
    assert _refusal(cloud, key) is None
    eventually_equal(lambda: _refusal(cloud, key), (401, "expired_key"), SHOWN_SECONDS)
    assert datetime.now(UTC) >= at


def test_rotated_key_works_and_the_old_one_does_not(cloud: Cloud, upstream: FakeUpstream) -> None:
    key = cloud.new_key("turns")
    rotated = cloud.post(f"/api/v1/api-keys/{key['id']}/rotate", {}).json()
    assert rotated["key"] != key["key"]
    eventually_equal(lambda: _refusal(cloud, rotated["key"]), None, TOLD_SECONDS)
    eventually_equal(lambda: (_refusal(cloud, key["key"]) or (0, ""))[0], 401, TOLD_SECONDS)


def test_exhausted_budget_is_402_and_was_never_overrun(cloud: Cloud, upstream: FakeUpstream) -> None:
    budget = Decimal("0.5")
    key = cloud.new_key("poor", limits={"budget": {"amount": str(budget), "currency": "USD"}})
    client, spent, refused = cloud.sdk(key["key"]), Decimal(0), None
    for _ in range(100):
        try:
            raw = client.chat.completions.with_raw_response.create(model=SCRIPTED, messages=ASK, max_tokens=3)
        except openai.APIStatusError as error:
            refused = error
            break
        spent += Decimal(raw.headers["x-skerry-cost"])
    assert refused is not None
    assert refused.status_code == 402
    assert refused.code == "insufficient_quota"
    assert 0 < spent <= budget
    # What is left is less than one such request may cost: the rest of the budget is not lost to rounding or leases.
    assert budget - spent < Decimal("0.3")
    eventually_equal(lambda: _billed(cloud, key["id"]), spent, SHOWN_SECONDS)


def test_new_key_works_at_once(cloud: Cloud, upstream: FakeUpstream) -> None:
    for number in range(5):
        assert _refusal(cloud, cloud.new_key(f"quick {number}")["key"]) is None


def _refusal(cloud: Cloud, key: str) -> tuple[int, str | None] | None:
    try:
        cloud.sdk(key).chat.completions.create(model=SCRIPTED, messages=ASK, max_tokens=3)
    except openai.APIStatusError as error:
        return error.status_code, error.code
    return None


def _billed(cloud: Cloud, key: str) -> Decimal:
    rows = cloud.get("/api/v1/costs", group_by="key").json()["data"]
    return sum((Decimal(row["billed_cost"]["amount"]) for row in rows if row["key"] == key), Decimal(0))
