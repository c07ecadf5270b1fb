"""`kill -9` of the launcher, under which everything runs."""

import random

import pytest

from tests.cloud import MODEL, Cloud
from tests.kill.checks import check_answers, check_journals, check_refusals, check_sums, snapshot
from tests.kill.conftest import rounds
from tests.kill.load import Load, PacedScript
from tests.waiting import eventually

pytestmark = pytest.mark.cloud

GONE_SECONDS = 30.0


@pytest.mark.parametrize("cloud", [rounds()[-1][0]], ids=str, indirect=True, scope="package")
async def test_all_ends_with_the_launcher_and_comes_up_again_with_all_records(
    cloud: Cloud, script: PacedScript
) -> None:
    key = cloud.new_key("survivor")
    load = Load(cloud, key["key"], random.Random(1))
    load.begin()
    await eventually(lambda: sum(ask.complete for ask in load.asks) >= 20, 30)
    before = snapshot(cloud)
    cloud.kill("launcher")
    await load.end()
    cloud.expect_nothing_left(GONE_SECONDS)

    keys = cloud.operator_key, cloud.project_key
    cloud.start()
    assert (cloud.operator_key, cloud.project_key) == keys
    check_refusals(load.asks)
    check_answers(cloud, key["id"], load.asks, script)
    check_journals(cloud)
    check_sums(cloud)
    assert set(before) <= set(snapshot(cloud))
    answer = cloud.sdk(key["key"]).chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}], max_tokens=2
    )
    assert answer.choices
