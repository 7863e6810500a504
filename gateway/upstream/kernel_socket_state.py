"""Reads the state of a connection from the kernel: whether it has ended, and how much the other side has received."""

import asyncio
import select
import socket
import struct

# `tcpi_bytes_acked` in Linux's struct tcp_info.
_BYTES_ACKED_OFFSET = 120
_MIN_INFO_LENGTH = _BYTES_ACKED_OFFSET + 8


def has_input(transport: asyncio.BaseTransport) -> bool:
    """Returns whether the connection has ended or contains data, also if the event loop has not noticed it yet. A
    connection without a request must have neither."""
    poller = select.poll()
    poller.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poller.poll(0))


def read_acknowledged_bytes(transport: asyncio.BaseTransport | None) -> int | None:
    """Returns how many bytes the other side's kernel has acknowledged. None if this kernel does not count them."""
    if transport is None or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except OSError:
        return None
    if len(info) < _MIN_INFO_LENGTH:
        return None
    count: int = struct.unpack_from("=Q", info, _BYTES_ACKED_OFFSET)[0]
    return count
