"""A DNS server for tests: it answers for a few names and never for others.

Only the gateway under test uses it, through its own /etc/resolv.conf in a mount namespace. In a network namespace
(`enter_own_network`) no query can reach another name server.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.child_spec import Hook

DNS_PORT = 53
SYSTEM_RESOLVER_FILE = "/etc/resolv.conf"
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 0x1
NETWORK_NAMESPACE = "/proc/thread-self/ns/net"
TYPE_A, RESPONSE_FLAGS = 1, b"\x81\x80"


def use_resolver_file(path: str) -> None:
    """Replaces /etc/resolv.conf for this process, which must have one thread. Raises OSError without the permission."""
    _call_libc("unshare", CLONE_NEWNS)
    _call_libc("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    _call_libc("mount", path.encode(), SYSTEM_RESOLVER_FILE.encode(), None, MS_BIND, None)


@contextmanager
def enter_own_network() -> Iterator[None]:
    """Moves this thread, and what it starts, into a network with only a loopback interface.

    Earlier connections stay in their network. Raises OSError without the permission.
    """
    outer_namespace = os.open(NETWORK_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call_libc("unshare", CLONE_NEWNET)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control_socket:
                fcntl.ioctl(control_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
            yield
        finally:
            _call_libc("setns", outer_namespace, CLONE_NEWNET)
    finally:
        os.close(outer_namespace)


def _call_libc(function_name: str, *arguments: object) -> None:
    """Calls a function of the C library. Raises OSError if it fails."""
    if getattr(ctypes.CDLL(None, use_errno=True), function_name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{function_name}: {os.strerror(ctypes.get_errno())}")


class NameServer:
    """Answers queries for the known names with IPv4 addresses. `query_counts` counts queries by name."""

    def __init__(self, folder: Path, known_addresses: Mapping[str, str]) -> None:
        self.known_addresses = dict(known_addresses)
        self.resolver_file = folder / "resolv.conf"
        self.query_counts: Counter[str] = Counter()
        self.socket, self.address = _bind_socket()
        self.resolver_file.write_text(f"nameserver {self.address}\n")
        self._thread = threading.Thread(target=self._serve_queries, daemon=True)
        self._thread.start()

    def make_hook(self) -> Hook:
        """Returns the hook with which a gateway uses this server."""
        return Hook("tests.harness.name_server:use_resolver_file", {"path": str(self.resolver_file)})

    def close(self) -> None:
        self.socket.sendto(b"", (self.address, DNS_PORT))
        self._thread.join()
        self.socket.close()

    def _serve_queries(self) -> None:
        while True:
            query, client = self.socket.recvfrom(512)
            if not query:
                return
            name, question_end = _parse_host_name(query)
            self.query_counts[name] += 1
            if (address := self.known_addresses.get(name)) is not None:
                self.socket.sendto(_build_response(query, question_end, address), client)


def _bind_socket() -> tuple[socket.socket, str]:
    """Binds port 53 on a loopback address that no other test process uses."""
    for last_octet in range(1, 255):
        server_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        address = f"127.53.53.{last_octet}"
        try:
            server_socket.bind((address, DNS_PORT))
        except PermissionError:
            server_socket.close()
            pytest.skip("binding port 53 needs root")
        except OSError:
            server_socket.close()
        else:
            return server_socket, address
    raise AssertionError("all loopback addresses are in use")


def _parse_host_name(query: bytes) -> tuple[str, int]:
    """Returns the name, and the end of the question with its type and class."""
    labels, position = [], 12
    while size := query[position]:
        labels.append(query[position + 1 : position + 1 + size].decode("ascii").lower())
        position += 1 + size
    return ".".join(labels), position + 5


def _build_response(query: bytes, question_end: int, address: str) -> bytes:
    is_ipv4_query = int.from_bytes(query[question_end - 4 : question_end - 2]) == TYPE_A
    header = query[:2] + RESPONSE_FLAGS + bytes([0, 1, 0, is_ipv4_query, 0, 0, 0, 0])
    record = b"\xc0\x0c" + bytes([0, 1, 0, 1, 0, 0, 0, 0, 0, 4]) + socket.inet_aton(address)
    return header + query[12:question_end] + (record if is_ipv4_query else b"")


@contextmanager
def run_name_server(folder: Path, known_addresses: Mapping[str, str]) -> Iterator[NameServer]:
    server = NameServer(folder, known_addresses)
    try:
        _skip_without_mount_namespace(str(server.resolver_file))
        yield server
    finally:
        server.close()


def _skip_without_mount_namespace(path: str) -> None:
    command = [sys.executable, "-c", f"from tests.harness.name_server import use_resolver_file as use; use({path!r})"]
    completed = subprocess.run(command, capture_output=True, text=True)
    if completed.returncode:
        pytest.skip(f"this machine allows no mount namespace for {SYSTEM_RESOLVER_FILE}: {completed.stderr[-200:]}")
