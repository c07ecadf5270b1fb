"""`python -m skerry.training.forkserver FD` with its settings as the first packet on FD."""

import socket
import sys

from skerry.training.forkserver import protocol
from skerry.training.forkserver.server import ForkServer, Settings


def main() -> None:
    sock = socket.socket(fileno=int(sys.argv[1]))
    received = protocol.receive(sock)
    if received is None:
        return
    server = ForkServer(sock, Settings(**received[0]))
    server.prepare()
    child = server.serve()
    if child is not None:
        # We are a rank now, below no frame of the server's loop.
        child.run()


if __name__ == "__main__":
    main()
