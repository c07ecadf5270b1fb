"""Each in turn, whatever it is doing."""

from skerry.inference.gateway.routing.base import Policy, Server


class RoundRobin(Policy):
    """Whoever was chosen longest ago. Those that come or come back are not served what they missed."""

    def __init__(self) -> None:
        super().__init__(slack=1.0)
        self._turn = 0
        self._chosen_at: dict[str, int] = {}

    def choose(self, able: list[Server], prefix: bytes, tenant: str) -> Server:
        self._turn += 1
        best = able[0]
        oldest = self._turn
        for server in able:
            at = self._chosen_at.get(server.id, 0)
            if at < oldest:
                best, oldest = server, at
        self._chosen_at[best.id] = self._turn
        return best

    def left(self, server: Server) -> None:
        self._chosen_at.pop(server.id, None)
