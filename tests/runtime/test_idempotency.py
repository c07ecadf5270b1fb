import asyncio

import pytest
from sqlalchemy import text

from skerry.kernel.errors import Conflict, Malformed
from skerry.runtime.idempotency import Idempotency, Stored, hash_body

ROUTE = "POST /api/v1/workloads"
BODY = hash_body(b'{"name": "a"}')


@pytest.fixture
def keys(clock):
    return Idempotency(clock)


async def create(database, keys, made, key="key-1", project="prj_a", body=BODY, route=ROUTE):
    """A use case that makes something."""
    async with database.transaction() as tx:
        if stored := await keys.begin(tx, project, key, route, body):
            return stored
        made.append(key)
        answer = Stored(201, {"id": f"wl_{len(made)}"})
        await keys.finish(tx, project, key, route, body, status=answer.status, body=answer.body)
        return answer


async def test_a_replay_is_answered_as_the_first_time_and_does_nothing(database, keys):
    made = []
    first = await create(database, keys, made)
    assert await create(database, keys, made) == first == Stored(201, {"id": "wl_1"})
    assert made == ["key-1"]


@pytest.mark.parametrize("other", [{"body": hash_body(b"{}")}, {"route": "POST /api/v1/endpoints"}])
async def test_a_key_for_another_request_is_refused(database, keys, other):
    await create(database, keys, [])
    with pytest.raises(Conflict) as caught:
        await create(database, keys, [], **other)
    assert caught.value.code == "idempotency_key_reused"


async def test_projects_do_not_share_keys(database, keys):
    made = []
    await create(database, keys, made)
    await create(database, keys, made, project="prj_b", body=hash_body(b"{}"))
    assert len(made) == 2


async def test_ten_at_once_do_it_once(database, keys):
    made = []
    answers = await asyncio.gather(*(create(database, keys, made) for _ in range(10)))
    assert made == ["key-1"]
    assert set(map(repr, answers)) == {repr(answers[0])}


async def test_a_request_that_failed_may_be_sent_again(database, keys):
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await keys.begin(tx, "prj_a", "key-1", ROUTE, BODY)
            raise ZeroDivisionError
    made = []
    await create(database, keys, made)
    assert made == ["key-1"]


async def test_a_request_that_is_begun_blocks_its_key_for_a_while(database, keys, clock):
    async with database.transaction() as tx:
        assert await keys.begin(tx, "prj_a", "key-1", ROUTE, BODY) is None
    with pytest.raises(Conflict) as caught:
        await create(database, keys, [])
    assert caught.value.code == "idempotency_key_in_use"
    clock.advance(minutes=2, seconds=1)
    with pytest.raises(Conflict) as caught:
        await create(database, keys, [], body=hash_body(b"{}"))
    assert caught.value.code == "idempotency_key_reused"
    made = []
    await create(database, keys, made)
    assert made == ["key-1"]


async def test_after_a_day_a_key_is_new_again(database, keys, clock):
    made = []
    await create(database, keys, made)
    clock.advance(hours=24, seconds=1)
    await create(database, keys, made, body=hash_body(b"{}"))
    assert len(made) == 2
    clock.advance(hours=24, seconds=1)
    async with database.transaction() as tx:
        assert await keys.forget(tx) == 1
        assert (await tx.execute(text("SELECT count(*) FROM idempotency_keys"))).scalar() == 0


@pytest.mark.parametrize("key", ["", "x" * 256, "a\x00b", "a\nb"])
async def test_a_key_that_is_none_is_refused_by_name(database, keys, key):
    async with database.transaction() as tx:
        with pytest.raises(Malformed) as caught:
            await keys.begin(tx, "prj_a", key, ROUTE, BODY)
    assert caught.value.errors[0].path == "Idempotency-Key"


async def test_an_answer_without_a_body_is_kept_too(database, keys):
    async with database.transaction() as tx:
        await keys.begin(tx, "prj_a", "key-1", ROUTE, BODY)
        await keys.finish(tx, "prj_a", "key-1", ROUTE, BODY, status=204, body=None)
    async with database.transaction() as tx:
        assert await keys.begin(tx, "prj_a", "key-1", ROUTE, BODY) == Stored(204, None)
