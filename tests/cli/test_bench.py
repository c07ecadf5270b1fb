"""`skerry bench`: what it may cost, what it asks, what it tells."""

import json
import signal
import threading
from decimal import Decimal

import pytest

from skerry.cli.bench.plan import Plan, cost_of_one
from skerry.cli.bench.report import percentile
from skerry.client.answers.money import Price, PriceBook
from tests.cli.fake_cloud import problem
from tests.cli.terminal import Terminal

PRICES = [
    {"meter": "tokens_prompt", "unit_quantity": 1000, "unit_price": "1"},
    {"meter": "tokens_completion", "unit_quantity": 1000, "unit_price": "2"},
]
BOOK = (200, {"version": 1, "currency": "EUR", "prices": PRICES})
SHARED = (200, {"id": "ep_1", "name": "tiny", "model": "tiny", "charge_by": "tokens"})
CHAT = "/v1/chat/completions"
SMALL = ("--prompt-tokens", "10", "--max-tokens", "8")


def price(meter, amount, **selectors):
    return Price(meter=meter, unit_quantity=1, unit_price=Decimal(amount), **selectors)


def book(*prices):
    return PriceBook(version=1, currency="EUR", prices=prices)


class TestCeiling:
    def test_it_is_that_of_the_dearest_row_that_may_apply(self):
        rows = (
            price("tokens_completion", "1"),
            price("tokens_completion", "2", model="m"),
            price("tokens_completion", "5", model="m", site="no"),
            price("tokens_completion", "9", model="other"),
            price("tokens_completion", "9", model="m", charge_by="time"),
        )
        assert cost_of_one(book(*rows), "m", 10, 3) == 15
        assert cost_of_one(book(*rows), "unpriced", 10, 3) == 3

    def test_cached_tokens_count_where_they_are_dearer(self):
        cheap, dear = price("tokens_prompt", "1"), price("tokens_cached", "2")
        assert cost_of_one(book(cheap, dear), "m", 10, 3) == 2 * cost_of_one(book(cheap), "m", 10, 3)

    def test_what_has_no_price_costs_nothing(self):
        assert cost_of_one(book(), "m", 10, 3) == 0

    @pytest.mark.parametrize(
        ("requests", "seconds", "ceiling", "highest"),
        [(4, None, None, "2.0"), (4, None, "1", "1"), (4, None, "3", "2.0"), (None, 9.0, "1", "1")],
    )
    def test_the_least_bound_holds(self, requests, seconds, ceiling, highest):
        limit = None if ceiling is None else Decimal(ceiling)
        plan = Plan("m", 2, requests, seconds, 10, 8, True, Decimal("0.5"), limit, "EUR")
        assert plan.highest.amount == Decimal(highest)


def test_prompts_are_of_their_length_and_differ_from_their_first_word_on():
    plan = Plan("m", 2, 4, None, 50, 8, True, Decimal(0), None, "EUR")
    prompts = [plan.prompt(number) for number in range(20)]
    assert {len(prompt.split()) for prompt in prompts} == {49}
    assert len({prompt.split()[0] for prompt in prompts}) == 20
    assert plan.prompt(3) == prompts[3]


@pytest.mark.parametrize(("share", "value"), [(0.5, 5), (0.95, 10), (0.1, 1), (1.0, 10)])
def test_percentiles_are_values_that_were_there(share, value):
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], share) == value


def test_a_percentile_of_nothing_is_none():
    assert percentile([], 0.5) is None


@pytest.fixture
def priced(cloud):
    cloud.answers |= {"GET /api/v1/prices": BOOK, "GET /api/v1/endpoints/tiny": SHARED}
    return cloud


def test_it_asks_before_it_spends(run, priced):
    result = run("bench", "tiny", "-n", "2", *SMALL)
    assert result.exit_code == 2
    # 2 requests of at most 148 prompt tokens and 8 others, at 0.001 and 0.002.
    assert "at most 0.328 EUR" in result.stderr
    assert "--yes" in result.stderr
    assert priced.of(CHAT) == []


def test_it_sums_what_the_answers_cost(run, priced):
    result = run("bench", "tiny", "-n", "6", "-c", "2", *SMALL, "--yes", "--json")
    told = json.loads(result.stdout)
    assert (told["requests"]["answered"], told["requests"]["failed"]) == (6, 0)
    assert told["cost"] == {"amount": "0.0000738", "currency": "EUR"}
    assert (told["tokens"]["prompt"], told["tokens"]["cached"], told["tokens"]["completion"]) == (72, 24, 12)
    assert told["first_token_ms"]["p50"] <= told["first_token_ms"]["p95"] <= told["total_ms"]["p95"]
    bodies = [asked.body for asked in priced.of(CHAT)]
    assert len({body["messages"][0]["content"] for body in bodies}) == 6
    assert all(body["max_tokens"] == 8 and body["stream"] for body in bodies)


def test_it_is_told_in_words(run, priced):
    result = run("bench", "tiny", "-n", "2", *SMALL, "--yes")
    assert "2 answered" in result.stdout
    assert "first token     p50" in result.stdout
    assert "0.0000246 EUR" in result.stdout


def test_without_a_stream_there_is_no_first_token(run, priced):
    answer = {"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    priced.answers[f"POST {CHAT}"] = (200, answer)
    told = json.loads(run("bench", "tiny", "-n", "2", "--no-stream", *SMALL, "--yes", "--json").stdout)
    assert (told["first_token_ms"], told["tokens"]["completion"], told["cost_not_told"]) == (None, 4, 2)


def test_nothing_is_begun_that_might_cost_more_than_it_may(run, priced):
    # One may cost 0.164, and does cost next to nothing: the bound is on what is under way.
    told = json.loads(run("bench", "tiny", "-n", "9", "-c", "9", *SMALL, "--max-cost", "0.4", "--json", "--yes").stdout)
    assert told["highest_cost"]["amount"] == "0.4"
    assert Decimal(told["cost"]["amount"]) <= Decimal("0.4")
    assert told["ceiling_reached"]
    assert told["requests"]["answered"] >= 2


def test_a_duration_has_a_ceiling_of_its_own(run, priced):
    result = run("bench", "tiny", "--duration", "30s", *SMALL)
    assert "at most 1 EUR" in result.stderr


def test_a_duration_ends(run, priced):
    told = json.loads(run("bench", "tiny", "-d", "1s", "-c", "2", *SMALL, "--yes", "--json").stdout)
    assert told["requests"]["answered"] > 0
    assert 1.0 <= told["seconds"] < 10.0


def test_time_that_is_paid_makes_tokens_free(run, priced):
    priced.answers["GET /api/v1/endpoints/tiny"] = (200, {"id": "ep_1", "model": "big", "charge_by": "time"})
    result = run("bench", "tiny", "-n", "1", *SMALL)
    assert result.exit_code == 0, result.stderr
    assert "tokens cost nothing here" in result.stderr


def test_refusals_are_counted_by_code(run, priced):
    words = problem(503, "overloaded", "Too much to do.")
    priced.answers[f"POST {CHAT}"] = lambda asked: words if len(priced.of(CHAT)) % 2 else None
    result = run("bench", "tiny", "-n", "4", "-c", "1", *SMALL, "--yes", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["errors"], told["requests"]["answered"]) == (0, {"503 overloaded": 2}, 2)
    # What was refused costs nothing.
    assert (told["cost_not_told"], told["cost"]["amount"]) == (0, "0.0000246")


@pytest.mark.parametrize(("status", "code"), [(401, 4), (404, 1), (402, 1)])
def test_what_the_next_would_be_told_too_ends_it(run, priced, status, code):
    priced.answers[f"POST {CHAT}"] = problem(status, "x", "No.")
    result = run("bench", "tiny", "-n", "50", "-c", "1", *SMALL, "--yes")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.endswith("Error: No.\n")
    assert len(priced.of(CHAT)) == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-n", "5", "-d", "5s"], "how many or how long"),
        (["--max-cost", "5USD"], "prices are in EUR"),
        (["--duration", "long"], "not a length of time"),
        (["--project", "lab"], "project of its key"),
    ],
)
def test_wrong_use(run, priced, args, words):
    result = run("bench", "tiny", *args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert priced.of(CHAT) == []


def test_ctrl_c_tells_what_was_seen_until_then(priced, env):
    priced.slow = threading.Event()
    terminal = Terminal(env, "bench", "tiny", "-n", "100000", "-c", "2", *SMALL, "--yes")
    while len(priced.of(CHAT)) < 5:
        terminal.until("100,000 requests")
    terminal.process.send_signal(signal.SIGINT)
    terminal.until("it was stopped")
    assert terminal.end() in (0, 130)
    assert "first token" in terminal.output
