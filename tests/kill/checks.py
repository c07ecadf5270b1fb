"""What must hold after a crash, whatever crashed: asked of the database and of what the clients saw."""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

from tests.cloud import MODEL, Cloud
from tests.e2e.reading import Recorded, records
from tests.kill.load import Ask, PacedScript, invented_prompt
from tests.waiting import eventually_sync

SHIPPED_SECONDS = 20.0
"""The next shipper must first learn that the old one has gone, and the database be up again."""

ROLLED_UP = """
WITH facts AS (SELECT project, meter, resource, dims, sum(quantity) AS quantity FROM usage_facts GROUP BY 1, 2, 3, 4),
     rolled AS (SELECT project, meter, resource, dims, sum(quantity) AS quantity FROM usage_rollups GROUP BY 1, 2, 3, 4)
SELECT * FROM facts FULL JOIN rolled USING (project, meter, resource, dims)
 WHERE facts.quantity IS DISTINCT FROM rolled.quantity
"""

OVERSPENT = """
SELECT 'lease' AS what, id, amount_nano, spent_nano FROM balance_leases WHERE spent_nano > amount_nano OR spent_nano < 0
UNION ALL
SELECT 'limit', p.account, a.limit_nano, p.committed_nano FROM balance_periods p
  JOIN balance_accounts a ON a.id = p.account WHERE p.committed_nano > a.limit_nano
UNION ALL
SELECT 'committed', p.account, p.committed_nano, sum(CASE l.state WHEN 'open' THEN l.amount_nano ELSE l.spent_nano END)
  FROM balance_periods p JOIN balance_leases l ON l.account = p.account AND l.period_start = p.period_start
 GROUP BY p.account, p.committed_nano
HAVING p.committed_nano <> sum(CASE l.state WHEN 'open' THEN l.amount_nano ELSE l.spent_nano END)
UNION ALL
SELECT 'spent', p.account, p.spent_nano, sum(l.spent_nano)
  FROM balance_periods p JOIN balance_leases l ON l.account = p.account AND l.period_start = p.period_start
 GROUP BY p.account, p.spent_nano HAVING p.spent_nano <> sum(l.spent_nano)
"""
"""What a balance gave away is what its open leases may still spend and what its closed ones have spent: never more."""


def check_answers(cloud: Cloud, key: str, asks: Sequence[Ask], script: PacedScript) -> None:
    """A completed answer has one record, with the tokens its client saw; a cut one at most one, a refused one none."""
    complete = {ask.request_id: ask for ask in asks if ask.complete}
    eventually_sync(lambda: complete.keys() <= {found.id for found in records(cloud, key)}, SHIPPED_SECONDS)
    found = records(cloud, key)
    assert all(record.requests == 1 for record in found), found
    for record in found:
        ask = complete.get(record.id)
        if ask is not None:
            assert (record.prompt + record.cached, record.completion) == ask.used, (record, ask)
    _check_cut([record for record in found if record.id not in complete], asks, script)


def _check_cut(rest: list[Recorded], asks: Sequence[Ask], script: PacedScript) -> None:
    cut = {ask.number: ask for ask in asks if ask.cut}
    for record in rest:
        ask = _asked(record, cut)
        assert ask is not None, f"a record that no client can have caused: {record}"
        del cut[ask.number]  # a second record of it has nothing left to belong to
        if ask.told:
            # The gateway lived: what it charged is what the client has.
            assert record.completion <= ask.pieces, (record, ask)
        else:
            most = ask.tokens if ask.model == MODEL else script.sent.get(ask.number, 0)
            assert record.completion <= most, (record, ask, most)


def _asked(record: Recorded, cut: dict[int, Ask]) -> Ask | None:
    """Which request it belongs to: by the answer's head, if one came, else by the prompt the script invented."""
    by_id = next((ask for ask in cut.values() if ask.request_id == record.id), None)
    if by_id is not None:
        return by_id
    headless = [ask for ask in cut.values() if not ask.request_id]
    known = [n for ask in headless if invented_prompt(n := ask.number) == (record.prompt, record.cached)]
    return cut[known[0]] if known else next((ask for ask in headless if ask.model == MODEL), None)


def check_refusals(asks: Sequence[Ask]) -> None:
    """Nobody did anything wrong, so whatever was refused was refused as our own fault."""
    wrong = [ask for ask in asks if ask.status not in (0, 200, 503)]
    assert not wrong, wrong


def check_sums(cloud: Cloud) -> None:
    """Rollups are the sums of the facts, and no balance gave more than it had."""
    eventually_sync(lambda: not cloud.query(ROLLED_UP), SHIPPED_SECONDS)
    assert cloud.query("SELECT count(*) FROM usage_rejected") == [(0,)]
    overspent = cloud.query(OVERSPENT)
    assert overspent == [], overspent


def check_journals(cloud: Cloud) -> None:
    """What dead gateways left is shipped and gone, and what they had leased is free again."""
    eventually_sync(lambda: len(list(cloud.settings.journal.iterdir())) == 1, SHIPPED_SECONDS)
    living = next(cloud.settings.journal.iterdir()).name
    holders = {row[0] for row in cloud.query("SELECT journal FROM balance_leases WHERE state = 'open'")}
    assert holders <= {living}


def check_spent(cloud: Cloud, key: str, asks: Sequence[Ask]) -> None:
    """The key's own balance has paid for all completed answers, and at most for the cut ones beside them."""
    spent = _spent(cloud, key)
    complete = sum(_nano(ask.cost) for ask in asks if ask.complete)
    dearest = max((_nano(ask.cost) for ask in asks if ask.complete), default=0)
    cut = sum(ask.cut for ask in asks)
    assert complete <= spent <= complete + 2 * cut * dearest, (complete, spent, cut, dearest)


def snapshot(cloud: Cloud) -> list[tuple[Any, ...]]:
    """All facts of answers there are, to be compared with later ones."""
    return cloud.query(
        "SELECT id, t1, meter, quantity FROM usage_facts WHERE meter <> 'accelerator_seconds' ORDER BY id"
    )


def _spent(cloud: Cloud, key: str) -> int:
    statement = """SELECT coalesce(sum(p.spent_nano), 0)::bigint FROM balance_periods p
                     JOIN balance_accounts a ON a.id = p.account WHERE a.target_id = %s"""
    spent: int = cloud.query(statement, key)[0][0]
    return spent


def _nano(cost: Decimal) -> int:
    return int((cost * 10**9).to_integral_value(ROUND_CEILING))
