"""The loops of the calendar, as machine code (numba). All in one file: see `compiled`.

Step functions lie in rows of flat arrays (steps.py): `t[offset[r] : offset[r] + length[r]]` are the times at which the
count changes, `f[…]` the count from then on. The first time of a row is `BEGINNING`, so a segment holds every moment.
A *group* is a run of leaves: a hall, a site, or all. Its row has the sum of what is free in its leaves (negative
counts as 0), and at least all times at which that of one leaf changes.

**The search.** m_l(s) = the least that leaf l has free over [s, s+D). A group has room at s when the sum over its
leaves is at least N. Between two times at which a leaf changes, m_l can only fall as s grows, so the earliest start is
the first possible moment or one of these times: the candidates. Two bounds rule out most without a look at each: at
every moment of the window the group as a whole must have N free; and for candidates c_i … c_j, closer together than D,
the sum of the minima over their common core [c_j, c_i+D) must reach N. The width of such blocks adapts: more candidates
after blocks that were ruled out, fewer after one that was not. Groups go in the order of the candidates that they have
reached, so nothing is looked at that lies after the answer.
"""

# What numpy gives is a plain integer or bool to numba:
# mypy: disable-error-code="return-value, arg-type, assignment, no-any-return"

from typing import Final

import numpy as np
from numpy.typing import NDArray

from skerry.capacity.jit import compiled

Ints = NDArray[np.int64]
Counts = NDArray[np.int32]
Flags = NDArray[np.uint8]

BEGINNING: Final = -(2**60)
"""Before all times."""
NEVER: Final = 2**60
"""After all times."""
FIRST_BLOCK: Final = 8
"""Candidates that a group tries to rule out at once at first."""
NO_USE, PART, TIGHTEST, WHOLE, PREFERRED_PART, PREFERRED_TIGHTEST = range(6)
"""What use a leaf is for what is still to be placed; see `choose`."""


@compiled
def segment(t: Ints, low: int, length: int, moment: int) -> int:
    """Where in a row the segment is that holds `moment`."""
    high = low + length
    while high - low > 1:
        middle = (low + high) >> 1
        if t[middle] <= moment:
            low = middle
        else:
            high = middle
    return low


@compiled
def least(t: Ints, f: Counts, low: int, length: int, start: int, end: int) -> int:
    """The least of a row over [start, end); negative counts as 0."""
    i = segment(t, low, length, start)
    stop = low + length
    found = f[i]
    i += 1
    while i < stop and found > 0 and t[i] < end:
        found = min(found, f[i])
        i += 1
    return max(np.int64(found), np.int64(0))


@compiled
def cut(t: Ints, f: Counts, low: int, length: Counts, row: int, moment: int) -> int:
    """Make `moment` a time of a row, which has room for it; returns its place."""
    n = length[row]
    i = segment(t, low, n, moment)
    if t[i] == moment:
        return i
    for j in range(low + n, i + 1, -1):
        t[j] = t[j - 1]
        f[j] = f[j - 1]
    t[i + 1] = moment
    f[i + 1] = f[i]
    length[row] = n + 1
    return i + 1


@compiled
def add(t: Ints, f: Counts, offset: Ints, length: Counts, row: int, start: int, end: int, nodes: int) -> None:
    """Add `nodes` (or take them) over [start, end). The row has room for two more times."""
    low = offset[row]
    first = cut(t, f, low, length, row, start)
    last = cut(t, f, low, length, row, end)
    for i in range(first, last):
        f[i] += nodes


@compiled
def join(t: Ints, f: Counts, low: int, length: Counts, row: int, moment: int) -> None:
    """Drop a time of a row at which nothing changes."""
    n = length[row]
    i = segment(t, low, n, moment)
    if i == low or t[i] != moment or f[i] != f[i - 1]:
        return
    for j in range(i, low + n - 1):
        t[j] = t[j + 1]
        f[j] = f[j + 1]
    length[row] = n - 1


@compiled
def shift(
    t: Ints,
    f: Counts,
    offset: Ints,
    length: Counts,
    leaf: int,
    at: Ints,
    af: Counts,
    aoffset: Ints,
    alength: Counts,
    groups: Ints,
    start: int,
    end: int,
    nodes: int,
) -> None:
    """Give `nodes` (negative: take) to a leaf over [start, end), and to its groups what that changes for sale."""
    low = offset[leaf]
    first = cut(t, f, low, length, leaf, start)
    last = cut(t, f, low, length, leaf, end)
    begun, given = start, np.int64(0)
    for i in range(first, last):
        change = max(f[i] + nodes, 0) - max(f[i], 0)
        f[i] += nodes
        if change != given:
            if given and begun < t[i]:
                for group in groups:
                    add(at, af, aoffset, alength, group, begun, t[i], given)
            begun, given = t[i], change
    if given:
        for group in groups:
            add(at, af, aoffset, alength, group, begun, end, given)
    join(t, f, low, length, leaf, end)
    join(t, f, low, length, leaf, start)


@compiled
def amend(gt: Ints, gf: Counts, bt: Ints, bf: Counts, nt: Ints, nf: Counts, out_t: Ints, out_f: Counts) -> int:
    """A group's row after a leaf of it became n instead of b; returns its length. Times of all three are kept."""
    g, b, n, k = 0, 0, 0, 0
    sum_, before, after = np.int64(0), np.int64(0), np.int64(0)
    while g < len(gt) or b < len(bt) or n < len(nt):
        moment = np.int64(NEVER)
        if g < len(gt):
            moment = gt[g]
        if b < len(bt):
            moment = min(moment, bt[b])
        if n < len(nt):
            moment = min(moment, nt[n])
        if g < len(gt) and gt[g] == moment:
            sum_ = np.int64(gf[g])
            g += 1
        if b < len(bt) and bt[b] == moment:
            before = np.int64(max(bf[b], 0))
            b += 1
        if n < len(nt) and nt[n] == moment:
            after = np.int64(max(nf[n], 0))
            n += 1
        out_t[k] = moment
        out_f[k] = sum_ - before + after
        k += 1
    return k


@compiled
def minima(t: Ints, f: Counts, offset: Ints, length: Counts, usable: Flags, start: int, end: int, out: Ints) -> None:
    """What each usable leaf has free all through [start, end)."""
    for leaf in range(len(out)):
        out[leaf] = least(t, f, offset[leaf], length[leaf], start, end) if usable[leaf] else 0


@compiled
def earliest_leaf(
    t: Ints,
    f: Counts,
    offset: Ints,
    length: Counts,
    usable: Flags,
    nodes: int,
    seconds: int,
    first: int,
    last: int,
) -> int:
    """The earliest start in [first, last] at which one leaf has all nodes; NEVER: none."""
    best = last + 1
    for leaf in range(len(usable)):
        if not usable[leaf]:
            continue
        low = offset[leaf]
        stop = low + length[leaf]
        i = segment(t, low, length[leaf], first)
        start = first
        while start < best:
            while i < stop and f[i] < nodes:
                i += 1
                start = t[i] if i < stop else np.int64(NEVER)
            if i == stop or start >= best:
                break
            while i + 1 < stop and t[i + 1] < start + seconds and f[i + 1] >= nodes:
                i += 1
            if i + 1 == stop or t[i + 1] >= start + seconds:
                best = start
                break
            i += 1
    return best if best <= last else np.int64(NEVER)


@compiled
def core_least(t: Ints, f: Counts, low: int, length: int, core: int, end: int) -> tuple[int, int]:
    """`least` over [core, end), and the end of the last segment that has no more."""
    stop = low + length
    i = segment(t, low, length, core)
    found, at = f[i], i
    i += 1
    while i < stop and t[i] < end:
        if f[i] <= found or f[i] <= 0:
            found, at = f[i], i
        i += 1
    return max(np.int64(found), np.int64(0)), t[at + 1] if at + 1 < stop else np.int64(NEVER)


@compiled
def room(
    t: Ints,
    f: Counts,
    offset: Ints,
    length: Counts,
    full: Ints,
    low: int,
    high: int,
    core: int,
    end: int,
    nodes: int,
    unit: int,
    most: Ints,
    until: Ints,
    exact: Ints,
    call: int,
) -> bool:
    """Whether leaves low…high have the nodes over [core, end): in sum, or (`unit`) as whole leaves and one more.

    `most`: what a leaf has at most in a window that begins before `until`; `end` never goes back from call to call, so
    the segment that says so is in the way until it ends. What holds no longer is looked up at once (`exact`: in which
    call), the others only where they leave it open.
    """
    whole = nodes // unit if unit else 0
    rest = nodes - whole * unit
    total, wholes, enough = np.int64(0), 0, 0
    for leaf in range(low, high):
        if until[leaf] <= core:
            most[leaf], until[leaf] = core_least(t, f, offset[leaf], length[leaf], core, end)
            exact[leaf] = call
        total += most[leaf]
        wholes += most[leaf] == unit and full[leaf] == unit
        enough += most[leaf] >= rest
    needed = whole + (1 if rest else 0)
    for leaf in range(low, high):
        if total < nodes or (unit and (wholes < whole or enough < needed)):
            return False
        before = most[leaf]
        if before and exact[leaf] != call:
            most[leaf], until[leaf] = core_least(t, f, offset[leaf], length[leaf], core, end)
            total -= before - most[leaf]
            wholes -= before != most[leaf] and before == unit and full[leaf] == unit
            enough -= before >= rest and most[leaf] < rest
    return total >= nodes and not (unit and (wholes < whole or enough < needed))


@compiled
def largest_leaf(full: Ints, usable: Flags, low: int, high: int) -> int:
    unit = np.int64(0)
    for leaf in range(low, high):
        if usable[leaf]:
            unit = max(unit, full[leaf])
    return unit


@compiled
def next_run(
    t: Ints, f: Counts, i: int, stop: int, start: int, nodes: int, seconds: int, last: int
) -> tuple[int, int, int]:
    """From `start` in segment i on: the first window of `seconds` in which the row never falls below `nodes`.

    Returns (its start, the segment of that, the last start in the same run); start NEVER: none by `last`.
    """
    while True:
        while i < stop and f[i] < nodes:
            i += 1
            start = t[i] if i < stop else np.int64(NEVER)
        if i == stop or start > last:
            return np.int64(NEVER), i, np.int64(NEVER)
        j = i
        while j + 1 < stop and f[j + 1] >= nodes and t[j] <= last + seconds:
            j += 1
        ends = t[j + 1] if j + 1 < stop else np.int64(NEVER)
        if ends - start >= seconds:
            return start, i, min(ends - seconds, last)
        i = j + 1
        start = ends


@compiled
def earliest_group(
    t: Ints,
    f: Counts,
    offset: Ints,
    length: Counts,
    full: Ints,
    usable: Flags,
    at: Ints,
    af: Counts,
    aoffset: Ints,
    alength: Counts,
    group_low: Ints,
    group_high: Ints,
    groups: Ints,
    nodes: int,
    seconds: int,
    first: int,
    last: int,
    whole_leaves: bool,
) -> int:
    """The earliest start in [first, last] at which one of the groups has room; NEVER: none."""
    count = len(groups)
    starts = np.full(count, NEVER, np.int64)  # the candidate a group has reached: all before are ruled out
    segments = np.zeros(count, np.int64)
    lasts = np.zeros(count, np.int64)  # of the run of candidates that the group's own sum allows
    blocks = np.full(count, FIRST_BLOCK, np.int64)
    failed = np.zeros(count, np.uint8)
    units = np.zeros(count, np.int64)
    most = np.zeros(len(usable), np.int64)
    until = np.where(usable != 0, BEGINNING, NEVER)
    exact = np.zeros(len(usable), np.int64)
    calls = 0
    for k in range(count):
        group = groups[k]
        if whole_leaves:
            units[k] = largest_leaf(full, usable, group_low[group], group_high[group])
            if units[k] == 0:
                continue
        low = aoffset[group]
        i = segment(at, low, alength[group], first)
        starts[k], segments[k], lasts[k] = next_run(at, af, i, low + alength[group], first, nodes, seconds, last)
    while True:
        k = np.argmin(starts)
        start, i, block = starts[k], segments[k], blocks[k]
        if start > last:
            return np.int64(NEVER)
        group = groups[k]
        stop = aoffset[group] + alength[group]
        limit = min(lasts[k], start + seconds - 1)
        reach = min(i + block, segment(at, i, stop - i, limit))
        final = at[reach] if reach > i else start
        calls += 1
        if room(
            t, f, offset, length, full, group_low[group], group_high[group],
            final, start + seconds, nodes, units[k], most, until, exact, calls,
        ):  # fmt: skip
            if reach == i:
                return start
            blocks[k] = (reach - i) >> 2
            failed[k] = 1
            continue
        blocks[k] = reach - i + 1 if failed[k] else 2 * (reach - i) + 1
        failed[k] = 0
        i = reach + 1
        if i < stop and at[i] <= lasts[k]:
            starts[k], segments[k] = at[i], i
        else:
            begin = at[i] if i < stop else np.int64(NEVER)
            starts[k], segments[k], lasts[k] = next_run(at, af, i, stop, begin, nodes, seconds, last)


@compiled
def fits(free: Ints, full: Ints, usable: Flags, low: int, high: int, nodes: int, whole_leaves: bool) -> bool:
    """Whether leaves low…high, of which each has `free`, have room for the nodes: `room` where all is known."""
    if not whole_leaves:
        return free[low:high].sum() >= nodes
    unit = largest_leaf(full, usable, low, high)
    if unit == 0:
        return False
    rest = nodes % unit
    wholes, enough = 0, 0
    for leaf in range(low, high):
        if usable[leaf]:
            wholes += 1 if free[leaf] == unit and full[leaf] == unit else 0
            enough += 1 if free[leaf] >= rest else 0
    return wholes >= nodes // unit and enough >= nodes // unit + (1 if rest else 0)


@compiled
def rank_of(here: int, full: int, rest: int, unit: int, preferred: bool) -> int:
    """What use a leaf with `here` free nodes is for the rest; the highest first. `unit`: whole leaves of this size."""
    if unit:
        if rest >= unit:
            useful = here == unit and full == unit
            return (PREFERRED_PART if preferred else WHOLE) if useful else NO_USE
        return (PREFERRED_TIGHTEST if preferred else TIGHTEST) if here >= rest else NO_USE
    if preferred:
        return PREFERRED_TIGHTEST if here >= rest else PREFERRED_PART
    if here == full and here <= rest:
        return WHOLE
    return TIGHTEST if here >= rest else PART


@compiled
def choose(
    free: Ints,
    full: Ints,
    usable: Flags,
    prefer: Flags,
    low: int,
    high: int,
    nodes: int,
    whole_leaves: bool,
    taken: Ints,
) -> int:
    """Take the nodes, for which there is room, from leaves low…high; returns how many leaves that needs.

    Preferred leaves first, the largest before others. Then full leaves, as many as the rest fills, then the tightest
    leaf that has all of the rest, else the one with most, and again. Ties go to the first leaf.
    """
    unit = largest_leaf(full, usable, low, high) if whole_leaves else np.int64(0)
    for leaf in range(low, high):
        taken[leaf] = 0
    legs, rest = 0, np.int64(nodes)
    while rest > 0:
        best, best_rank, most = -1, NO_USE, np.int64(0)
        for leaf in range(low, high):
            here = free[leaf]
            if here <= 0 or taken[leaf] or not usable[leaf]:
                continue
            rank = rank_of(here, full[leaf], rest, unit, prefer[leaf] != 0)
            if rank == NO_USE or rank < best_rank:
                continue
            worth = -here if rank in (TIGHTEST, PREFERRED_TIGHTEST) else here
            if rank > best_rank or worth > most:
                best, best_rank, most = leaf, rank, worth
        if best < 0:
            return 0
        taken[best] = min(free[best], rest)
        rest -= taken[best]
        legs += 1
    return legs


@compiled
def settle(
    free: Ints,
    full: Ints,
    usable: Flags,
    prefer: Flags,
    group_low: Ints,
    group_high: Ints,
    levels: Ints,
    widest: int,
    nodes: int,
    whole_leaves: bool,
    taken: Ints,
) -> tuple[int, int, int]:
    """Where the nodes go: the narrowest scope with room; in it the place with fewest legs, then with the least free.

    `levels`: where the groups of halls, of sites and of all begin, and where they end. Returns the scope's number
    (WIDTHS; -1: no room up to `widest`) and the leaves low…high to which `taken` then applies.
    """
    best, best_rank = -1, NO_USE
    for leaf in range(len(free)):
        if usable[leaf] and free[leaf] >= nodes:
            rank = PREFERRED_TIGHTEST if prefer[leaf] else TIGHTEST
            if rank > best_rank or (rank == best_rank and free[leaf] < free[best]):
                best, best_rank = leaf, rank
    if best >= 0:
        taken[best] = nodes
        return 0, best, best + 1
    for level in range(1, widest + 1):
        fewest, tightest = np.int64(NEVER), np.int64(NEVER)
        for group in range(levels[level - 1], levels[level]):
            low, high = group_low[group], group_high[group]
            if not fits(free, full, usable, low, high, nodes, whole_leaves):
                continue
            legs = choose(free, full, usable, prefer, low, high, nodes, whole_leaves, taken)
            total = free[low:high].sum()
            if legs < fewest or (legs == fewest and total < tightest):
                best, fewest, tightest = group, legs, total
        if best >= 0:
            return level, group_low[best], group_high[best]
    return -1, 0, 0
