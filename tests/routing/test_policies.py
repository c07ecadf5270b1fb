"""Each policy on hand-made servers."""

from collections import Counter

import pytest

from skerry.inference.gateway.routing.base import Policy, Server
from skerry.inference.gateway.routing.choosing import policy_of
from skerry.inference.gateway.routing.prefix_affinity import COMPARED, PrefixAffinity, boundaries
from skerry.inference.model import RoutingPolicy

ALL = pytest.mark.parametrize("kind", list(RoutingPolicy))
SALT = b"project-a\0"


def fleet(policy: Policy, count: int, slots: int = 16, weights: tuple[int, ...] = ()) -> list[Server]:
    servers = [Server(f"replica-{number}", slots, weights[number] if weights else 100) for number in range(count)]
    for server in servers:
        policy.joined(server)
    return servers


def prompt(name: object, size: int = 4096) -> bytes:
    return (SALT + f"{name} ".encode() * size)[:size]


def pick(policy: Policy, servers: list[Server], prefix: bytes, avoid: Server | None = None) -> Server:
    chosen = policy.pick(servers, prefix, "tenant", 0.0, avoid)
    assert chosen is not None
    return chosen


def shares(chosen: list[Server]) -> dict[str, float]:
    return {id: count / len(chosen) for id, count in Counter(server.id for server in chosen).items()}


# --- what holds for all
@ALL
def test_a_server_that_is_full_down_or_without_weight_is_passed_over(kind):
    policy = policy_of(kind, 1)
    full, down, weightless, good = servers = fleet(policy, 4)
    full.in_flight, down.down_until, weightless.weight = full.slots, 1.0, 0
    assert {pick(policy, servers, prompt(number)) for number in range(50)} == {good}


@ALL
@pytest.mark.parametrize("count", [1, 3])
def test_nobody_is_chosen_where_none_can_take_it(kind, count):
    policy = policy_of(kind, 1)
    servers = fleet(policy, count)
    for server in servers:
        server.in_flight = server.slots
    assert policy.pick(servers, prompt(1), "tenant", 0.0) is None
    assert policy.pick([], prompt(1), "tenant", 0.0) is None


@ALL
def test_a_server_is_up_again_when_its_time_is_over(kind):
    policy = policy_of(kind, 1)
    (server,) = servers = fleet(policy, 1)
    server.down_until = 5.0
    assert policy.pick(servers, b"", "tenant", 4.9) is None
    assert policy.pick(servers, b"", "tenant", 5.0) is server


@ALL
def test_the_server_that_failed_is_tried_again_only_where_there_is_no_other(kind):
    policy = policy_of(kind, 1)
    one, two = servers = fleet(policy, 2)
    assert {pick(policy, servers, prompt(number), avoid=one) for number in range(50)} == {two}
    two.down_until = 1.0
    assert pick(policy, servers, prompt(1), avoid=one) is one


@ALL
@pytest.mark.parametrize("weights", [(95, 5), (100, 100, 10), (50, 30, 20), (1, 1, 1, 997)])
@pytest.mark.parametrize("hot", [False, True], ids=["many prompts", "one prompt"])
def test_shares_follow_weights_in_the_long_run(kind, weights, hot):
    policy = policy_of(kind, 1)
    servers = fleet(policy, len(weights), weights=weights)
    chosen = [pick(policy, servers, prompt(0 if hot else number, 512)) for number in range(8000)]
    for weight in set(weights):
        share = sum(server.weight == weight for server in chosen) / len(chosen)
        assert share == pytest.approx(weight * weights.count(weight) / sum(weights), abs=0.015)


@ALL
def test_a_server_that_was_never_announced_can_be_chosen(kind):
    policy = policy_of(kind, 1)
    servers = [Server("one", 4), Server("two", 4)]
    assert pick(policy, servers, prompt(1)) in servers


# --- each its own
def test_only_prefix_affinity_asks_for_the_prompt():
    assert [kind for kind in RoutingPolicy if policy_of(kind, 1).needs_prefix] == [RoutingPolicy.PREFIX_AFFINITY]


def test_round_robin_takes_turns_and_serves_nobody_what_it_missed():
    policy = policy_of(RoutingPolicy.ROUND_ROBIN, 1)
    servers = fleet(policy, 3)
    servers[0].down_until = 1.0
    for _ in range(10):
        policy.pick(servers, b"", "tenant", 0.0)
    seen = Counter(server.id for _ in range(9) if (server := policy.pick(servers, b"", "tenant", 1.0)))
    assert set(seen.values()) == {3}


def test_least_load_compares_requests_with_slots_and_takes_turns_among_equals():
    policy = policy_of(RoutingPolicy.LEAST_LOAD, 1)
    small, large = servers = [Server("small", 2), Server("large", 8)]
    small.in_flight, large.in_flight = 1, 3
    assert pick(policy, servers, b"") is large
    small.in_flight = large.in_flight = 0
    assert {pick(policy, servers, b"") for _ in range(2)} == {small, large}


def test_random_choices_can_be_repeated():
    first, second = policy_of(RoutingPolicy.RANDOM, 7), policy_of(RoutingPolicy.RANDOM, 7)
    servers = fleet(first, 5)
    assert [pick(first, servers, b"") for _ in range(30)] == [pick(second, servers, b"") for _ in range(30)]


# --- prefix affinity
def test_a_conversation_stays_where_it_is():
    policy = PrefixAffinity()
    servers = fleet(policy, 8)
    text = prompt("opening", 600)
    first = pick(policy, servers, text)
    for turn in range(20):
        text += f" turn {turn}".encode() * 30
        assert pick(policy, servers, text) is first


def test_conversations_with_one_system_prompt_do_not_all_go_to_one_server():
    policy = PrefixAffinity()
    servers = fleet(policy, 8)
    seen = shares([pick(policy, servers, prompt("system", 4096) + prompt(number, 4096)) for number in range(400)])
    assert len(seen) == 8
    assert max(seen.values()) < 0.3


def test_a_server_that_holds_the_prompt_is_left_when_it_is_much_busier():
    policy = PrefixAffinity()
    servers = fleet(policy, 4)
    text = prompt("hot")
    holder = pick(policy, servers, text)
    holder.in_flight, holder.unread = 1, len(text)
    assert pick(policy, servers, text) is holder
    holder.in_flight, holder.unread = 10, 10 * len(text)
    assert pick(policy, servers, text) is not holder


def test_what_a_server_was_sent_as_the_last_resort_is_remembered():
    policy = PrefixAffinity()
    servers = fleet(policy, 3)
    for number in range(20):
        last = servers[number % 3]
        for server in servers:
            server.down_until = 0.0 if server is last else 1.0
        assert pick(policy, servers, prompt(number), avoid=last) is last
        for server in servers:
            server.down_until = 0.0
        assert pick(policy, servers, prompt(number)) is last


def test_a_hot_beginning_spreads_and_both_servers_hold_it_then():
    policy = PrefixAffinity()
    servers = fleet(policy, 4)
    text = prompt("hot")
    first = pick(policy, servers, text)
    first.in_flight = first.slots
    second = pick(policy, servers, text)
    first.in_flight = 0
    for server in servers:
        if server not in (first, second):
            continue
        others = [other for other in (first, second) if other is not server]
        for other in others:
            other.in_flight, other.unread = 8, 8 * len(text)
        assert pick(policy, servers, text) is server
        for other in others:
            other.in_flight = other.unread = 0


@pytest.mark.parametrize("departures", [1, 30, 120], ids=["once", "often", "more often than there are bits"])
def test_what_a_server_held_is_not_taken_for_what_its_successor_holds(departures):
    policy = PrefixAffinity()
    one, other = servers = fleet(policy, 2)
    texts = [prompt(number) for number in range(20)]
    for text in texts:
        pick(policy, servers, text, avoid=other)
    # The new one has the old one's name. Of what that held it holds nothing: the hash alone decides.
    for _ in range(departures):
        policy.left(one)
        one = Server("replica-0", 16)
        policy.joined(one)
    fresh = PrefixAffinity()
    for text in texts:
        assert pick(policy, [one, other], text).id == pick(fresh, [one, other], text).id


def test_servers_that_stay_keep_what_they_hold_while_others_come_and_go():
    policy = PrefixAffinity()
    stays, goes = fleet(policy, 2)
    texts = [prompt(number) for number in range(20)]
    for text in texts:
        pick(policy, [stays, goes], text, avoid=goes)
    for number in range(200):
        policy.left(goes)
        goes = Server(f"guest-{number}", 16)
        policy.joined(goes)
    assert {pick(policy, [stays, goes], text) for text in texts} == {stays}


def test_a_new_state_of_a_server_may_join_before_the_old_one_leaves():
    policy = PrefixAffinity()
    old, other = fleet(policy, 2)
    new = Server(old.id, 16)
    policy.joined(new)
    policy.left(old)
    policy.left(old)
    assert pick(policy, [new, other], prompt(1)) in (new, other)


def test_prompts_that_differ_in_their_salt_share_nothing():
    policy = PrefixAffinity()
    servers = fleet(policy, 2)
    text = prompt("same", 2048)
    pick(policy, servers, b"project-a\0" + text)
    before = len(policy)
    pick(policy, servers, b"project-b\0" + text)
    assert len(policy) == 2 * before


def test_memory_is_bounded():
    policy = PrefixAffinity(limit=500)
    servers = fleet(policy, 3)
    for number in range(300):
        pick(policy, servers, prompt(number, 65536))
        assert len(policy) <= 500


def test_the_oldest_beginnings_are_forgotten_first_and_the_longest_of_them():
    policy = PrefixAffinity(limit=40)
    servers = fleet(policy, 2)
    for number in range(4):
        pick(policy, servers, prompt("system", 512) + prompt(number, 1024))
    seen = len(policy)
    pick(policy, servers, prompt("system", 512))
    assert len(policy) == seen, "the beginning that all of them share is still known"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 65535, 65536, 70000])
def test_prompts_of_any_length_can_be_routed(size):
    policy = PrefixAffinity()
    servers = fleet(policy, 3)
    text = prompt("x", size)
    assert pick(policy, servers, text) is pick(policy, servers, text)
    assert len(policy) == sum(end <= size for end in boundaries())


def test_blocks_end_where_the_compared_part_ends():
    ends = boundaries()
    assert ends == sorted(set(ends))
    assert ends[0] == 128
    assert ends[-1] == COMPARED


def test_gateways_that_never_met_a_prompt_send_it_to_the_same_server():
    servers = [Server(f"replica-{number}", 16) for number in range(8)]
    one, other = PrefixAffinity(), PrefixAffinity()
    for policy, order in ((one, servers), (other, servers[::-1])):
        for server in order:
            policy.joined(server)
    for number in range(200):
        assert pick(one, servers, prompt(number)) is pick(other, servers[::-1], prompt(number))


def test_a_second_turn_at_another_gateway_finds_the_first_ones_server():
    servers = [Server(f"replica-{number}", 16) for number in range(8)]
    one, other = PrefixAffinity(), PrefixAffinity()
    found = 0
    for number in range(200):
        first = pick(one, servers, prompt(number, 2000))
        found += pick(other, servers, prompt(number, 2000) + prompt("next", 500)) is first
    assert found == 200


@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_a_server_that_comes_or_goes_moves_only_its_own_share(count):
    servers = [Server(f"replica-{number}", 16) for number in range(count + 1)]
    texts = [prompt(number, 256) for number in range(2000)]
    before, after = PrefixAffinity(), PrefixAffinity()
    many = [pick(before, servers, text) for text in texts]
    few = [pick(after, servers[:-1], text) for text in texts]
    moved = [(was, now) for was, now in zip(many, few, strict=True) if was is not now]
    assert all(was is servers[-1] for was, _ in moved)
    assert len(moved) / len(texts) == pytest.approx(1 / (count + 1), rel=0.3)
    taken = shares([now for _, now in moved])
    assert max(taken.values()) < 2.0 / count + 0.1, "what it had is spread over the others"
