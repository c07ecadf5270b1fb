"""The port of a generation's store."""

import socket


class StorePort:
    """Bound, but not listened on: rank 0 may listen there (both set SO_REUSEADDR), nobody else is given it."""

    def __init__(self) -> None:
        self._socket = self._bound()

    @property
    def number(self) -> int:
        number: int = self._socket.getsockname()[1]
        return number

    def close(self) -> None:
        self._socket.close()

    @staticmethod
    def _bound() -> socket.socket:
        family, any_address = (socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "")
        sock = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((any_address, 0))
        return sock
