"""Ports for servers in other processes."""

import socket

# Bound sockets that do not listen. As long as they exist, the system gives their ports neither to clients nor to other
# servers that ask for a free port, also while the server of the port is being restarted.
_reservations: list[socket.socket] = []


def reserve_port() -> int:
    """Reserves a port until this process ends. A server that reuses addresses, as nearly all do, can listen on it."""
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    _reservations.append(reservation)
    port: int = reservation.getsockname()[1]
    return port
