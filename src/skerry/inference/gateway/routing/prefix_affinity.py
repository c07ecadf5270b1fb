"""The server that holds the beginning of the prompt, unless it is much busier than the others."""

import math
from collections import OrderedDict
from typing import Final
from zlib import crc32

from skerry.inference.gateway.routing.base import Policy, Server

BLOCK: Final = 128
"""Bytes of the first blocks. Shorter prompts are not remembered: reading them costs nothing."""
COMPARED: Final = 64 * 1024
"""Bytes of a prompt that are looked at."""
LIMIT: Final = 32768
"""Beginnings that are remembered, about 200 bytes each."""
PATIENCE: Final = 0.15
"""How much a byte that others wait for counts beside one that this request would have to have read."""
COMPANY: Final = 0.05
"""The same for each request that is being answered, in usual prompts: it slows the others a little."""
BOUND: Final = 1.5
"""Times the mean load up to which a server is taken for what it holds."""
LIGHT: Final = 8
"""Below one in so many of its slots no server is busy, whatever the mean."""
HOME: Final = 0.15
"""How likely a beginning that is not known here was read by the server whose turn it is: other gateways asked it."""
HOT: Final = 8
"""Times a beginning was asked for, for each server, after which it draws nothing to those that hold it: it is worth
reading everywhere, and new conversations that begin with it are spread."""
MOST_BITS: Final = 1 << 50
COUNT_BITS: Final = 10
COUNTED: Final = (1 << COUNT_BITS) - 1
SLACK: Final = 8.0
"""Requests by which a share by weight may be missed, so that a conversation can stay where it is."""
MASK: Final = 0x3FFFFFFF
SPREAD: Final = 0x2C1B3C6D
"""Odd: `(one ^ other) * SPREAD & MASK` is the draw of a server for a beginning, both mixed."""


def boundaries() -> list[int]:
    """Where blocks end: every 128 bytes, then each about a quarter further than the one before."""
    ends = [BLOCK]
    while ends[-1] < COMPARED:
        ends.append(min(ends[-1] + max(BLOCK, ends[-1] // 4 // 64 * 64), COMPARED))
    return ends


def mix(number: int) -> int:
    """Checksums are linear: what is drawn from two of them must not be. Stays within 62 bits on the way."""
    number = (number & MASK) * 0x45D9F3B & MASK
    number = (number ^ number >> 15) * SPREAD & MASK
    return number ^ number >> 15


class PrefixAffinity(Policy):
    """Remembers which servers were sent which beginnings, and weighs what one would have to read against its load.

    The checksum of all bytes up to a block's end stands for that beginning; each beginning has a set of servers, as
    bits. A server costs what it does not hold of this prompt, and a part of what it has yet to read for others. The
    cheapest gets the request. So a beginning that many ask for spreads: while its holder is busy another reads it, and
    holds it from then on; and what is asked for very often is read by all.

    Each beginning also has a home, drawn by a hash of server and first block not known, which costs a little less. So
    gateways that do not talk choose alike, and a server that comes or goes moves its own share of homes only.
    """

    def __init__(self, limit: int = LIMIT, patience: float = PATIENCE) -> None:
        super().__init__(SLACK, needs_prefix=True)
        self._limit = limit
        self._patience = patience
        self._ends = boundaries()
        self._holders: OrderedDict[int, int] = OrderedDict()
        """Beginning → servers it was sent to, one bit each, and in the lowest bits how often."""
        self._hot = 0
        """Of the prompt at hand: bytes of its beginning that every server should hold."""
        self._bits: dict[Server, int] = {}
        self._seeds: dict[Server, int] = {}
        self._live = 0
        """The bits of servers that are there."""
        self._stale = 0
        """The bits of servers that left, which may still be set in `_holders`."""
        self._usual = 2048.0
        """Bytes a request makes its server read: a mean that moves."""

    def choose(self, able: list[Server], prefix: bytes, tenant: str) -> Server:
        keys = self._keys(prefix)
        groups: list[int] = []
        ends: list[int] = []
        depth = self._known(keys, groups, ends, min(HOT * len(able), COUNTED))
        known = ends[-1] if ends else 0
        hot = self._hot
        home = self._home(able, self._turn_of(prefix, keys, depth, tenant))
        bound = self._bound(able)
        patience = self._patience
        company = self._usual * COMPANY
        bits = self._bits
        best = able[0]
        bit = most = 0
        least = math.inf
        for server in able:
            requests = server.in_flight
            if requests > bound * server.slots and requests * LIGHT >= server.slots:
                continue
            mine = bits.get(server, 0) or self._bit_for(server)
            holds = 0
            for index in range(len(groups)):
                if not groups[index] & mine:
                    break
                holds = ends[index]
            cost = patience * server.unread + company * requests
            if holds > hot:
                cost -= holds - hot
            if server is home:
                cost -= HOME * (len(prefix) - known)
            if cost < least or (cost == least and best is not home and (server is home or server.id < best.id)):
                least, best, bit, most = cost, server, mine, holds
        self._usual += (len(prefix) - most - self._usual) / 64.0
        self._remember(keys, bit)
        return best

    def joined(self, server: Server) -> None:
        self._bit_for(server)

    def left(self, server: Server) -> None:
        """What it held counts no more from now on; it is struck out when next met, or when bits run short."""
        self._seeds.pop(server, 0)
        bit = self._bits.pop(server, 0)
        self._live &= ~bit
        self._stale |= bit

    def __len__(self) -> int:
        """Beginnings that are remembered."""
        return len(self._holders)

    def _keys(self, prefix: bytes) -> list[int]:
        """A number for each beginning that ends with a block: its checksum, and how many blocks it has."""
        keys: list[int] = []
        size = len(prefix)
        start = checksum = 0
        for count, end in enumerate(self._ends):
            if end > size:
                break
            checksum = crc32(prefix[start:end], checksum)
            keys.append(checksum << 8 | count)
            start = end
        return keys

    def _known(self, keys: list[int], groups: list[int], ends: list[int], hot: int) -> int:
        """How many of the beginnings are known. Fills `groups`: the servers that hold at least `ends` bytes each."""
        holders = self._holders
        depth = last = 0
        self._hot = 0
        for key in keys:
            value = holders.get(key, 0)
            mask = value >> COUNT_BITS & self._live
            if depth:
                mask &= last
                if mask != last:
                    groups.append(last)
                    ends.append(self._ends[depth - 1])
            if not mask:
                return depth
            if value & COUNTED >= hot:
                self._hot = self._ends[depth]
            last = mask
            depth += 1
        if depth:
            groups.append(last)
            ends.append(self._ends[depth - 1])
        return depth

    def _turn_of(self, prefix: bytes, keys: list[int], depth: int, tenant: str) -> int:
        """What decides about the home: the first block that is not known, or the rest where all are."""
        if depth < len(keys):
            return keys[depth] >> 8
        if keys:
            return crc32(prefix[self._ends[depth - 1] : COMPARED], keys[-1] >> 8)
        return crc32(prefix or tenant.encode())

    def _remember(self, keys: list[int], bit: int) -> None:
        """The longest beginnings first, so that they are also forgotten first."""
        holders = self._holders
        kept = self._live << COUNT_BITS | COUNTED
        bit <<= COUNT_BITS
        for index in range(len(keys) - 1, -1, -1):
            key = keys[index]
            value = holders.get(key, 0)
            if value:
                holders.move_to_end(key)
            if value & COUNTED < COUNTED:
                value += 1
            holders[key] = value & kept | bit
        while len(holders) > self._limit:
            holders.popitem(last=False)

    def _bound(self, able: list[Server]) -> float:
        """Requests for each slot that a server may have and still be taken for what it holds."""
        requests = slots = 0
        for server in able:
            requests += server.in_flight
            slots += server.slots
        return BOUND * (requests + 1) / slots

    def _home(self, able: list[Server], key: int) -> Server:
        """Weighted rendezvous hashing: of all servers a fair draw for each key, and no other when others come or go."""
        seeds = self._seeds
        best = able[0]
        weight = best.weight
        mixed = mix(key)
        greatest = -1
        for server in able:
            if server.weight != weight:
                return self._heaviest(able, mixed)
            seed = seeds.get(server, -1)
            if seed < 0:
                self._bit_for(server)
                seed = seeds[server]
            drawn = (mixed ^ seed) * SPREAD & MASK
            if drawn > greatest:
                best, greatest = server, drawn
        return best

    def _heaviest(self, able: list[Server], mixed: int) -> Server:
        best = able[0]
        greatest = -1.0
        for server in able:
            self._bit_for(server)
            drawn = (mixed ^ self._seeds[server]) * SPREAD & MASK
            rank = -server.weight / math.log((drawn + 0.5) / (MASK + 1))
            if rank > greatest:
                best, greatest = server, rank
        return best

    def _bit_for(self, server: Server) -> int:
        bit = self._bits.get(server, 0)
        if not bit:
            bit = self._free_bit()
            if bit >= MOST_BITS and self._stale:
                self._strike_out()
                bit = self._free_bit()
            self._live |= bit
            self._bits[server] = bit
            self._seeds[server] = mix(crc32(server.id.encode()))
        return bit

    def _free_bit(self) -> int:
        used = self._live | self._stale
        bit = 1
        while used & bit:
            bit <<= 1
        return bit

    def _strike_out(self) -> None:
        """Goes through all that is remembered: some 15 ms, once in dozens of departures."""
        holders: OrderedDict[int, int] = OrderedDict()
        kept = self._live << COUNT_BITS | COUNTED
        for key, value in self._holders.items():
            if value & kept > COUNTED:
                holders[key] = value & kept
        self._holders = holders
        self._stale = 0
