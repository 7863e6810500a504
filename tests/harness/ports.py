"""Ports for servers in other processes."""

import socket


def reserve_port() -> int:
    """Reserves a port until this process ends. A server that reuses addresses, as nearly all do, can listen on it."""
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    port: int = reservation.getsockname()[1]
    # A bound socket that does not listen. As long as it is open, the system gives its port neither to clients nor to
    # other servers that ask for a free port, also while the server of the port is being restarted.
    reservation.detach()
    return port
