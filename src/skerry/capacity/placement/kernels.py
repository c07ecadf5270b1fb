"""Scores of machines, as machine code. Called by `board.py` only, which says what the arrays hold.

Fragmentation is FGD's ("Beware of Fragmentation", USENIX ATC 2023): the accelerator share of a machine that a typical
task cannot use, in the mean over typical tasks. Here they are grouped by (milli, accelerators), and what share of a
group may run on a kind of machine with so much processor time free is looked up, so that a score costs some hundred
nanoseconds.
"""

from typing import Any, Final

import numpy as np

from skerry.capacity.jit import compiled

NOWHERE: Final = -1e300
"""Score of a machine that cannot take the task."""

# Columns of `types`.
CPU: Final = 0
MEMORY: Final = 1
COUNT: Final = 2
MILLI: Final = 3


@compiled
def ascending(free: Any, i: int, size: int, into: Any) -> None:
    """What is free of each accelerator of machine `i`, sorted, in line 0 of `into`: few values, and mostly alike."""
    for k in range(size):
        value, j = free[i, k], k
        while j > 0 and into[0, j - 1] > value:
            into[0, j] = into[0, j - 1]
            j -= 1
        into[0, j] = value


@compiled
def fragmentation(lines: Any, line: int, size: int, cpu: int, kind: int, typical: Any) -> float:
    """Milli-accelerators that typical tasks cannot use. The line says what is free of each accelerator, ascending."""
    millis, group_milli, group_count, cpus, usable = typical
    total = 0
    for i in range(size):
        total += lines[line, i]
    if total == 0:
        return 0.0
    bucket, above = 0, cpus.shape[0]
    while above - bucket > 1:
        middle = (bucket + above) // 2
        if cpus[middle] <= cpu:
            bucket = middle
        else:
            above = middle
    lost = float(total)
    too_small, small = 0, 0  # how many accelerators have too little for a group, and how much that is
    for group in range(group_milli.shape[0]):
        needed = millis[group_milli[group]]
        while too_small < size and lines[line, too_small] < needed:
            small += lines[line, too_small]
            too_small += 1
        if size - too_small >= group_count[group]:
            lost -= usable[kind, bucket, group] * (total - small)
    return lost


@compiled
def score(
    needs: Any, free: Any, i: int, size: int, cpu: int, kind: int, before: float, typical: Any, policy: Any, lines: Any
) -> Any:
    """(score, accelerator) of a machine that has room for a task. Accelerator -1: any that are whole.

    `needs` is (thousandths of cores, accelerators, thousandths of each); `lines` is scratch space.
    """
    task_cpu, count, milli = needs
    ascending(free, i, size, lines)
    total = 0
    for k in range(size):
        total += lines[0, k]
    cpu_left = cpu - task_cpu
    best, device = NOWHERE, -1
    if count == 1 and milli < 1000:
        for k in range(size):
            now = lines[0, k]
            if now < milli or (k > 0 and now == lines[0, k - 1]):
                continue
            for j in range(size):
                lines[1, j] = lines[0, j]
            j = k
            while j > 0 and lines[1, j - 1] > now - milli:
                lines[1, j] = lines[1, j - 1]
                j -= 1
            lines[1, j] = now - milli
            gain = before - fragmentation(lines, 1, size, cpu_left, kind, typical)
            if gain > best:  # of equals the tightest, which came first
                best, device = gain, now
        for k in range(size):
            if free[i, k] == device:
                device = k
                break
    else:
        for k in range(count):
            lines[1, k] = 0
        for k in range(size - count):
            lines[1, count + k] = lines[0, k]
        best = before - fragmentation(lines, 1, size, cpu_left, kind, typical)
    total_left = total - count * milli
    stranded = max(0.0, total_left - cpu_left * policy[2]) - max(0.0, total - cpu * policy[2])
    return best - policy[1] * stranded - policy[0] * (total_left / 8000.0 + cpu_left / 128000.0), device


@compiled
def rate(number: int, todo: Any, count: int, board: Any, race: Any, typical: Any, policy: Any) -> None:
    """Write down the scores of the first `count` machines of `todo` as they are now. Untouched ones score alike."""
    types, allowed, free, sizes, cpu, _, kinds, versions, before, seen, scores, stamps, devices, lines = board
    alike, example = race[0], race[5]
    example[:] = -1
    task_cpu, accelerators, milli = types[number, CPU], types[number, COUNT], types[number, MILLI]
    for at in range(count):
        i = todo[at]
        stamps[number, i] = versions[i]
        if versions[i] == 1:
            known = example[alike[i]]
            if known >= 0:
                scores[number, i] = scores[number, known]
                devices[number, i] = devices[number, known]
                continue
            example[alike[i]] = i
        scores[number, i] = NOWHERE
        if not allowed[number, kinds[i]] or cpu[i] < task_cpu:
            continue
        left = accelerators
        for k in range(sizes[i]):
            if free[i, k] >= milli:
                left -= 1
        if left > 0:
            continue
        if seen[i] != versions[i]:
            seen[i] = versions[i]
            ascending(free, i, sizes[i], lines)
            before[i] = fragmentation(lines, 0, sizes[i], cpu[i], kinds[i], typical)
        needs = (task_cpu, accelerators, milli)
        value, device = score(needs, free, i, sizes[i], cpu[i], kinds[i], before[i], typical, policy, lines)
        scores[number, i] = value
        devices[number, i] = device


@compiled
def choose(number: int, memory_needed: int, board: Any, banned: Any, race: Any, typical: Any, policy: Any) -> int:
    """The machine for a task of type `number`, or -1. Only machines that have changed since are looked at again.

    The best is found by a tournament: entry 1 of `winners` is the best of all, 2n and 2n+1 met for entry n. Of equals
    the first wins, which the caller's order decides. Never one at random: that costs five points.
    """
    memory, versions, scores, stamps = board[5], board[7], board[10], board[11]
    _, winners, log, head, visited, _, todo = race
    width, count, stale = winners.shape[1] // 2, versions.shape[0], 0
    everything = visited[number] < 0 or head[0] - visited[number] > log.shape[0]
    for at in range(0 if everything else visited[number], count if everything else head[0]):
        i = at if everything else log[at % log.shape[0]]
        if stamps[number, i] != versions[i]:
            stamps[number, i] = versions[i]
            todo[stale] = i
            stale += 1
    visited[number] = head[0]
    if stale:
        rate(number, todo, stale, board, race, typical, policy)
    if everything:
        for i in range(width):
            winners[number, width + i] = i if i < count else -1
    for at in range(width - 1 if everything else stale):
        node = width - 1 - at if everything else (width + todo[at]) // 2
        while node > 0:
            left, right = winners[number, 2 * node], winners[number, 2 * node + 1]
            winners[number, node] = left if right < 0 or scores[number, left] >= scores[number, right] else right
            node = 0 if everything else node // 2
    chosen = winners[number, 1]
    if chosen >= 0 and memory[chosen] >= memory_needed and not banned[chosen]:
        return chosen if scores[number, chosen] > NOWHERE else -1
    best, chosen = NOWHERE, -1
    for i in range(count):
        if scores[number, i] > best and memory[i] >= memory_needed and not banned[i]:
            best, chosen = scores[number, i], i
    return chosen


@compiled
def place_all(order: Any, memory_needed: Any, board: Any, banned: Any, race: Any, typical: Any, policy: Any) -> Any:
    """Place one task after another; gives each one's machine, or -1."""
    types, free, sizes, cpu, memory, versions, devices = (
        board[0],
        board[2],
        board[3],
        board[4],
        board[5],
        board[7],
        board[12],
    )
    log, head = race[2], race[3]
    where = np.full(order.shape[0], -1, np.int64)
    for turn in range(order.shape[0]):
        number = order[turn]
        i = choose(number, memory_needed[turn], board, banned, race, typical, policy)
        if i < 0:
            continue
        where[turn] = i
        count, milli = types[number, COUNT], types[number, MILLI]
        if count == 1 and milli < 1000:
            free[i, devices[number, i]] -= milli
        else:
            for j in range(sizes[i]):
                if count > 0 and free[i, j] >= milli:
                    free[i, j] -= milli
                    count -= 1
        cpu[i] -= types[number, CPU]
        memory[i] -= memory_needed[turn]
        versions[i] += 1
        log[head[0] % log.shape[0]] = i
        head[0] += 1
    return where
