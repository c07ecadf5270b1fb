"""Limits of keys, projects and organizations: exact on one gateway, bounded over several."""

import time
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.identity.model import KeyLimits, KeyRecord, RateLimits
from skerry.inference.gateway import admission
from skerry.inference.gateway.errors import ApiError
from skerry.inference.gateway.metrics import GatewayMetrics
from skerry.inference.gateway.snapshot import Snapshot
from skerry.kernel.ids import OrganizationId
from tests.gateway.harness import key

NO_LIMIT = 6_000_000
KEYS = (("sk-a1", "proj_a"), ("sk-a2", "proj_a"), ("sk-b1", "proj_b"))
"""Keys with their projects, all of one organization."""
# So few a minute that nothing to speak of comes back while a test runs.
limits = st.one_of(st.none(), st.integers(1, 20))
unhurried = settings(deadline=None)


def records(of_key: int | None, of_project: int | None, of_organization: int | None) -> list[KeyRecord]:
    return [
        replace(
            key(secret, project=project, limits=KeyLimits(requests_per_minute=of_key)),
            organization_id=OrganizationId("org_1"),
            project_limits=RateLimits(requests_per_minute=of_project),
            organization_limits=RateLimits(requests_per_minute=of_organization),
        )
        for secret, project in KEYS
    ]


def gateway(known: list[KeyRecord], gateways: int = 1) -> Snapshot:
    snapshot = Snapshot(GatewayMetrics(), 100)
    snapshot.share_with(gateways)
    snapshot.put_keys(known, NO_LIMIT, NO_LIMIT)
    return snapshot


def take(snapshot: Snapshot, secret: str) -> ApiError | None:
    """One request on this key: let in, or why not."""
    state = next(state for state in snapshot.keys.values() if state.id == f"key_{secret}")
    try:
        admission.take_rate(state, time.monotonic())
    except ApiError as error:
        return error
    return None


def let_in(snapshot: Snapshot, secret: str, tries: int) -> int:
    return sum(take(snapshot, secret) is None for _ in range(tries))


@given(limits, limits, limits, st.lists(st.sampled_from(KEYS), max_size=70))
@unhurried
def test_on_one_gateway_each_limit_is_exact_and_a_refusal_takes_nothing(
    of_key: int | None, of_project: int | None, of_organization: int | None, asked: list[tuple[str, str]]
) -> None:
    snapshot = gateway(records(of_key, of_project, of_organization))
    used: dict[str, int] = {}
    for secret, project in asked:
        shared = ((secret, of_key), (project, of_project), ("org_1", of_organization))
        fits = all(limit is None or used.get(whose, 0) < limit for whose, limit in shared)
        error = take(snapshot, secret)
        assert (error is None) == fits
        if error is None:
            for whose, _ in shared:
                used[whose] = used.get(whose, 0) + 1
        else:
            assert (error.status, error.code) == (429, "rate_limit_exceeded")


@given(st.integers(1, 20), st.integers(1, 8))
@unhurried
def test_over_several_gateways_the_limit_is_never_exceeded_but_by_one_request_each(limit: int, count: int) -> None:
    known = records(None, limit, None)
    gateways = [gateway(known, count) for _ in range(count)]
    total = sum(let_in(one, secret, 30) for one in gateways for secret in ("sk-a1", "sk-a2"))
    assert limit // count * count <= total <= max(limit, count)


@given(st.integers(2, 20), st.integers(0, 20))
@unhurried
def test_a_gateway_that_joins_adds_its_part_at_most(limit: int, before: int) -> None:
    known = records(None, None, limit)
    first = gateway(known)
    total = let_in(first, "sk-a1", before)
    first.share_with(2)
    second = gateway(known, 2)
    total += let_in(first, "sk-b1", 30) + let_in(second, "sk-b1", 30)
    assert total <= limit + limit // 2 + 1


@given(st.integers(2, 20), st.integers(1, 20))
@unhurried
def test_when_the_others_leave_the_rest_gets_no_more_than_its_part_at_once(limit: int, before: int) -> None:
    known = records(None, limit, None)
    one = gateway(known, 2)
    used = let_in(one, "sk-a1", before)
    one.share_with(1)
    # What was left of the half is as much of the whole.
    part = limit // 2
    assert let_in(one, "sk-a2", 30) <= (part - used) / part * limit + 1


def test_a_refusal_says_whose_limit_it_is() -> None:
    for limits_of, whose in (((1, 9, 9), "API key"), ((9, 1, 9), "project"), ((9, 9, 1), "organization")):
        snapshot = gateway(records(*limits_of))
        assert take(snapshot, "sk-a1") is None
        error = take(snapshot, "sk-a1")
        assert error is not None
        assert whose in error.message
