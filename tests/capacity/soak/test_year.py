"""Nothing is sold twice, and every node-second is accounted for, over a year that is over in a minute."""

import os

import pytest

from tests.capacity.soak.year import DAY, Year

SEED = int(os.environ.get("SKERRY_SEED", "1"))


@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
def test_a_small_fleet_over_a_quarter(seed: int) -> None:
    print(f"seed {seed}")
    check(Year(seed, nodes=150, leaf=8, halls=4, days=90, a_day=12, failures=4))


@pytest.mark.soak
def test_a_year_of_12500_nodes() -> None:
    print(f"seed {SEED}")
    check(Year(SEED, nodes=12_500, days=365, a_day=60, failures=25))


def check(year: Year) -> None:
    year.run()
    places = year.places.values()
    print(dict(year.counts))
    print(f"promised {year.promised}, delivered {year.delivered}, missing {year.missing} node-seconds")
    assert year.promised == year.delivered + year.missing
    assert year.delivered == sum(place.seconds["busy"] for place in places)
    for place in places:
        assert sum(place.seconds.values()) == place.size * year.end
    assert year.counts["failures"] > year.end // DAY
    assert min(year.counts[what] for what in ("cancelled", "shrunk", "extended", "lapsed", "drains", "refused")) > 0
    assert year.unexplained == 0
