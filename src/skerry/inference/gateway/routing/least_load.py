"""The server with the fewest requests for its slots."""

from skerry.inference.gateway.routing.base import Policy, Server


class LeastLoad(Policy):
    """Looks at all servers. Of equal ones, the one that was chosen longest ago."""

    def __init__(self) -> None:
        super().__init__(slack=1.0)
        self._turn = 0
        self._chosen_at: dict[str, int] = {}

    def choose(self, able: list[Server], prefix: bytes, tenant: str) -> Server:
        self._turn += 1
        best = able[0]
        chosen_at = self._chosen_at.get(best.id, 0)
        for server in able:
            # in_flight / slots, without the division
            difference = server.in_flight * best.slots - best.in_flight * server.slots
            if difference > 0:
                continue
            at = self._chosen_at.get(server.id, 0)
            if difference < 0 or at < chosen_at:
                best, chosen_at = server, at
        self._chosen_at[best.id] = self._turn
        return best

    def left(self, server: Server) -> None:
        self._chosen_at.pop(server.id, None)
