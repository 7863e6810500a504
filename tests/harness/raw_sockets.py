"""Reads from plain sockets until the connection ends."""

import contextlib
import socket


def read_until_closed(connection: socket.socket) -> bytes:
    """Reads until the server closes the connection. Raises ConnectionResetError if it resets it."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


def read_until_closed_or_reset(connection: socket.socket) -> bytes:
    """Reads until the connection ends. A byte that is sent after the server's close resets it."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65_536):
            received += chunk
    return received
