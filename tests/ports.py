"""Ports for servers that are started later."""

import secrets
import socket


def free_port() -> int:
    """Below the ports that the system gives to connections, so that nobody takes it meanwhile (Linux: from 32768)."""
    for _ in range(100):
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
