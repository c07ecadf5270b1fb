"""One small interface: of the servers of an endpoint, which one gets this request.

Plain classes with precise types: the hot path is compiled. Policies keep no clock and do no work between calls.
"""


class Server:
    """One replica, as a gateway sees it. The gateway keeps `in_flight` and `unread`; policies only read them."""

    def __init__(self, id: str, slots: int, weight: int = 100) -> None:
        self.id = id
        self.in_flight = 0
        self.unread = 0
        """Bytes of the requests sent to it whose answer has not begun: what it has yet to read, cached or not."""
        self.slots = slots
        """Requests this gateway gives it at once."""
        self.weight = weight
        """Its share beside the others; 0: it gets nothing."""
        self.down_until = 0.0
        """Seconds on the gateway's clock until which it is passed over."""


class Shares:
    """Shares by weight, kept in the long run whatever else a policy looks at.

    Servers of one weight are one class, in which load and caches decide alone. Each class has an account, credited
    with its share of each request and debited for those it got. It may be off by `slack` requests, so that a
    conversation can stay where it is; then the share decides.
    """

    def __init__(self, slack: float) -> None:
        self._slack = slack
        self._credit: dict[int, float] = {}

    def narrow(self, able: list[Server]) -> list[Server]:
        """Those of `able` that may be chosen now; never empty."""
        owed = able[0].weight
        most = least = self._credit.get(owed, 0.0)
        for server in able:
            credit = self._credit.get(server.weight, 0.0)
            if credit > most:
                most, owed = credit, server.weight
            elif credit < least:
                least = credit
        if most >= self._slack:
            return [server for server in able if server.weight == owed]
        if least > -self._slack:
            return able
        return [server for server in able if self._credit.get(server.weight, 0.0) > -self._slack]

    def pay(self, able: list[Server], chosen: Server) -> None:
        """One request went to `chosen`, while each of `able` could have had it."""
        credit = self._credit
        if len(credit) > MAX_CLASSES:
            credit.clear()
        total = 0
        for server in able:
            total += server.weight
        for server in able:
            credit[server.weight] = credit.get(server.weight, 0.0) + server.weight / total
        credit[chosen.weight] -= 1.0


MAX_CLASSES = 64
"""Distinct weights that are remembered; beyond it the accounts begin anew."""


class Policy:
    """Chooses. Subclasses say how in `choose`; who may be chosen, and shares by weight, are the same for all."""

    def __init__(self, slack: float, needs_prefix: bool = False) -> None:
        """`slack`: requests by which a share may be missed for a while."""
        self.needs_prefix = needs_prefix
        """Whether `pick` wants the prompt's beginning where there is more than one server."""
        self._shares = Shares(slack)

    def pick(
        self, servers: list[Server], prefix: bytes, tenant: str, now: float, avoid: Server | None = None
    ) -> Server | None:
        """A server with room, up and with a weight; None where none can take it now.

        `prefix`: project salt and the prompt's beginning, the same bytes for the same beginning. `avoid` failed this
        request: it is chosen only where no other can be.
        """
        if len(servers) == 1:
            only = servers[0]
            return only if only.in_flight < only.slots and only.down_until <= now and only.weight > 0 else None
        able: list[Server] = []
        weight = 0
        mixed = last_resort = False
        for server in servers:
            if server.in_flight >= server.slots or server.down_until > now or server.weight <= 0:
                continue
            if server is avoid:
                last_resort = True
                continue
            if server.weight != weight:
                mixed = mixed or weight != 0
                weight = server.weight
            able.append(server)
        if not able:
            if avoid is None or not last_resort:
                return None
            able.append(avoid)
        if not mixed:
            return self.choose(able, prefix, tenant)
        chosen = self.choose(self._shares.narrow(able), prefix, tenant)
        self._shares.pay(able, chosen)
        return chosen

    def choose(self, able: list[Server], prefix: bytes, tenant: str) -> Server:
        """One of `able`, which is not empty."""
        raise NotImplementedError

    def joined(self, server: Server) -> None:
        """A server of the endpoint has come."""

    def left(self, server: Server) -> None:
        """It will not be offered again, and what it held is gone."""
