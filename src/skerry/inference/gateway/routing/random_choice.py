"""Any of them, by weight."""

import math
import random

from skerry.inference.gateway.routing.base import Policy, Server


class RandomChoice(Policy):
    """Seeded, so that a run can be repeated. Chance alone keeps the shares."""

    def __init__(self, seed: int) -> None:
        super().__init__(slack=math.inf)
        self._random = random.Random(seed)

    def choose(self, able: list[Server], prefix: bytes, tenant: str) -> Server:
        total = 0
        for server in able:
            total += server.weight
        drawn = int(self._random.random() * total)
        for server in able:
            drawn -= server.weight
            if drawn < 0:
                return server
        return able[-1]
