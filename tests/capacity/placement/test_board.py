"""The choice of a machine, against the same arithmetic written down plainly."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.capacity.placement.board import Board, neighbours
from skerry.capacity.placement.model import WHOLE, Machine, Policy, Spot, Task, Typical

POLICY = Policy()

tasks = st.one_of(
    st.builds(
        Task,
        accelerators=st.sampled_from([0, 1, 2, 4, 8]),
        cpu_milli=st.sampled_from([0, 1000, 4000, 8000, 16000]),
        memory_mib=st.sampled_from([0, 4096]),
        kinds=st.sampled_from([None, frozenset({"a"}), frozenset({"b"}), frozenset({"a", "b"})]),
    ),
    st.builds(
        Task,
        accelerators=st.just(1),
        milli=st.sampled_from([100, 250, 500, 730]),
        cpu_milli=st.sampled_from([1000, 4000]),
    ),
)
machines = st.lists(
    st.builds(
        Machine,
        name=st.just("m"),
        kind=st.sampled_from(["a", "b"]),
        accelerators=st.sampled_from([1, 2, 4, 8]),
        cpu_milli=st.sampled_from([16000, 64000, 96000]),
        memory_mib=st.sampled_from([8192, 65536]),
    ),
    min_size=1,
    max_size=6,
)


class Plain:
    """One machine, without arrays, caches or short cuts."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.free = [WHOLE] * machine.accelerators
        self.cpu, self.memory = machine.cpu_milli, machine.memory_mib

    def runs(self, task: Task, free: list[int], cpu: int) -> bool:
        right = task.kinds is None or self.machine.kind in task.kinds
        milli = task.milli if task.accelerators else 0
        return right and cpu >= task.cpu_milli and sum(one >= milli for one in free) >= task.accelerators

    def lost(self, free: list[int], cpu: int, typical: list[Typical]) -> float:
        lost = 0.0
        for one in typical:
            if one.task.accelerators and self.runs(one.task, free, cpu):
                lost += one.weight * sum(milli for milli in free if milli < one.task.milli)
            else:
                lost += one.weight * sum(free)
        return lost / sum(one.weight for one in typical)

    def score(self, task: Task, typical: list[Typical]) -> float | None:
        if not self.runs(task, self.free, self.cpu) or self.memory < task.memory_mib:
            return None
        cpu = self.cpu - task.cpu_milli
        outcomes = []
        if task.shared:
            for i, milli in enumerate(self.free):
                if milli >= task.milli:
                    outcomes.append([one - (task.milli if n == i else 0) for n, one in enumerate(self.free)])
        else:
            rest = sorted(self.free)
            outcomes.append(rest[: len(rest) - task.accelerators] + [0] * task.accelerators)
        gain = max(self.lost(self.free, self.cpu, typical) - self.lost(free, cpu, typical) for free in outcomes)
        used = sum(one.weight * one.task.accelerator_milli for one in typical)
        cores = sum(one.weight * one.task.cpu_milli for one in typical if one.task.accelerators)
        worth = used / cores if cores else 0.0
        left = sum(self.free) - task.accelerator_milli
        stranded = max(0.0, left - cpu * worth) - max(0.0, sum(self.free) - self.cpu * worth)
        return gain - POLICY.stranding * stranded - POLICY.tightness * (left / 8000 + cpu / 128000)


@settings(max_examples=150, deadline=None)
@given(machines=machines, wanted=st.lists(tasks, max_size=25), seed=st.integers(0, 99))
def test_every_choice_is_the_best_there_is(machines: list[Machine], wanted: list[Task], seed: int) -> None:
    typical = [Typical(Task(1, 500, 2000), 3), Typical(Task(1, cpu_milli=8000), 5), Typical(Task(8), 1)]
    typical += [Typical(Task(0, cpu_milli=4000), 1), Typical(Task(2, kinds=frozenset({"a"})), 2)]
    board, plain = Board(machines, typical), [Plain(machine) for machine in machines]
    chance, placed = random.Random(seed), []
    for task in wanted:
        scores = [one.score(task, typical) for one in plain]
        spot = board.place(task)
        possible = [score for score in scores if score is not None]
        assert (spot is None) == (not possible)
        if spot is not None:
            assert scores[spot.machine] == pytest.approx(max(possible), abs=1e-6)
            change(plain, spot, task, -1)
            placed.append((spot, task))
        if placed and chance.random() < 0.3:
            spot, task = placed.pop(chance.randrange(len(placed)))
            board.give_back(spot, task)
            change(plain, spot, task, 1)
        assert [board.free(i) for i in range(len(machines))] == [tuple(one.free) for one in plain]


def change(plain: list[Plain], spot: Spot, task: Task, sign: int) -> None:
    one = plain[spot.machine]
    for device in spot.devices:
        one.free[device] += sign * task.milli
    one.cpu += sign * task.cpu_milli
    one.memory += sign * task.memory_mib
    assert min(one.free, default=0) >= 0 and one.cpu >= 0 and one.memory >= 0


def test_a_whole_trace_goes_where_single_placements_go() -> None:
    chance = random.Random(5)
    machines = [Machine(f"m{i}", "a", chance.choice([2, 4, 8]), 96000, 65536) for i in range(40)]
    typical = [Typical(Task(1, 500, 4000), 3), Typical(Task(1, cpu_milli=8000), 5), Typical(Task(8), 1)]
    kinds = [Task(1, 500, 4000, 512), Task(1, cpu_milli=8000), Task(4), Task(8), Task(0, cpu_milli=2000), Task(1, 300)]
    kinds += [Task(2, cpu_milli=1000 * n) for n in range(12)]
    wanted = [chance.choice(kinds) for _ in range(400)]
    one, all_at_once = Board(machines, typical), Board(machines, typical)
    single = [spot.machine if (spot := one.place(task)) is not None else None for task in wanted]
    assert all_at_once.place_all(wanted) == single
    assert None in single


def test_a_task_goes_where_it_leaves_the_least_that_nobody_can_use() -> None:
    board = Board([Machine("empty", "a", 8, 0, 0), Machine("begun", "a", 8, 0, 0)], [Typical(Task(8), 1)])
    board.take(Spot(1, (0,)), Task(1))
    assert board.choose(Task(1)) == Spot(1, (1,))


def test_equals_go_to_the_machine_named_first() -> None:
    machines = [Machine(f"m{i}", "a", 8, 0, 0) for i in range(20)]
    assert [Board(machines, [Typical(Task(1), 1)]).choose(Task(1)) for _ in range(5)] == [Spot(0, (0,))] * 5


def test_work_that_wants_many_cores_goes_where_cores_would_lie_idle() -> None:
    poor, rich = Machine("poor", "a", 8, 64000, 0), Machine("rich", "a", 2, 96000, 0)
    board = Board([poor, rich], [Typical(Task(1, cpu_milli=8000), 1)])
    assert board.choose(Task(0, cpu_milli=16000)) == Spot(1, ())


def test_a_gang_is_placed_whole_or_not_at_all() -> None:
    board = Board([Machine(f"m{i}", "a", 8, 0, 0) for i in range(3)], [Typical(Task(8), 1)])
    spots = board.place_gang(Task(8), 3)
    assert spots is not None and sorted(spot.machine for spot in spots) == [0, 1, 2]
    board = Board([Machine(f"m{i}", "a", 8, 0, 0) for i in range(3)], [Typical(Task(8), 1)])
    assert board.place_gang(Task(4), 4) is None
    assert board.free_milli == 24 * WHOLE


def test_what_is_taken_cannot_be_taken_again() -> None:
    board = Board([Machine("m", "a", 2, 1000, 0)], [Typical(Task(1), 1)])
    board.take(Spot(0, (0,)), Task(1))
    with pytest.raises(ValueError, match="no such room"):
        board.take(Spot(0, (0,)), Task(1))
    with pytest.raises(ValueError, match="no such room"):
        board.give_back(Spot(0, (1,)), Task(1))


@given(free=st.sets(st.integers(0, 15)), count=st.integers(0, 8))
def test_accelerators_are_neighbours_where_that_can_be(free: set[int], count: int) -> None:
    if len(free) < count:
        return
    chosen = neighbours(sorted(free), count)
    assert len(chosen) == count and set(chosen) <= free and list(chosen) == sorted(chosen)
    can = any(set(range(at, at + count)) <= free for at in range(16))
    assert not count or not can or chosen == tuple(range(chosen[0], chosen[0] + count))


def test_blocks_of_two_and_four_stay_whole() -> None:
    assert neighbours([1, 2, 3, 4, 5, 6, 7], 1) == (1,)
    assert neighbours([1, 2, 3, 4, 5, 6, 7], 2) == (2, 3)
    assert neighbours([2, 3, 4, 5, 6, 7], 4) == (4, 5, 6, 7)
    assert neighbours([0, 1, 2, 3, 6, 7], 2) == (6, 7)


@pytest.mark.parametrize(
    "fields", [{"accelerators": -1}, {"accelerators": 2, "milli": 500}, {"accelerators": 1, "milli": 0}]
)
def test_a_task_that_makes_no_sense_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        Task(**fields)
