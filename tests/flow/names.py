"""A name server of our own: it knows a few names, and is silent about all others, for as long as anybody asks.

Only the gateway of a test asks it: in its process's own view of the files, `/etc/resolv.conf` is another one. In a
network of its own (`own_network`), no question can reach any other name server either.
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

PORT = 53
SYSTEMS_RESOLVER_FILE = "/etc/resolv.conf"
# In the environment of a gateway.
RESOLVER_FILE = "FLOW_RESOLVER_FILE"
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 0x1
NETWORK = "/proc/thread-self/ns/net"
TYPE_A, FLAGS_ANSWER = 1, b"\x81\x80"


def use_resolver_file(path: str) -> None:
    """In a process of one thread, before it looks any name up. OSError where this machine does not allow it."""
    _call("unshare", CLONE_NEWNS)
    _call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    _call("mount", path.encode(), SYSTEMS_RESOLVER_FILE.encode(), None, MS_BIND, None)


@contextmanager
def own_network() -> Iterator[None]:
    """A network with nothing but its own loopback, for this thread and all threads and processes that it starts.

    OSError where this machine does not allow it. Connections made before stay in the network that they are in.
    """
    outside = os.open(NETWORK, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", CLONE_NEWNET)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                fcntl.ioctl(one, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
            yield
        finally:
            _call("setns", outside, CLONE_NEWNET)
    finally:
        os.close(outside)


def _call(name: str, *arguments: object) -> None:
    """A function of the C library. OSError if it fails."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


class NameServer:
    """`asked`: how often for each name. Names lead to IPv4 addresses only."""

    def __init__(self, folder: Path, known: Mapping[str, str]) -> None:
        self.known = dict(known)
        self._resolver_file = folder / "resolv.conf"
        self.asked: Counter[str] = Counter()
        self.socket, self.address = _bound()
        self._resolver_file.write_text(f"nameserver {self.address}\n")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def environ(self) -> dict[str, str]:
        """What leads a gateway here."""
        return {RESOLVER_FILE: str(self._resolver_file)}

    def close(self) -> None:
        self.socket.sendto(b"", (self.address, PORT))
        self._thread.join()
        self.socket.close()

    def _serve(self) -> None:
        while True:
            question, client = self.socket.recvfrom(512)
            if not question:
                return
            name, end = _name(question)
            self.asked[name] += 1
            if (address := self.known.get(name)) is not None:
                self.socket.sendto(_answer(question, end, address), client)


def _bound() -> tuple[socket.socket, str]:
    """On an address of this machine that no other test process has."""
    for last in range(1, 255):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        address = f"127.53.53.{last}"
        try:
            one.bind((address, PORT))
        except PermissionError:
            one.close()
            pytest.skip("this machine does not let us be a name server: port 53 needs root")
        except OSError:
            one.close()
        else:
            return one, address
    raise AssertionError("all addresses are taken")


def _name(question: bytes) -> tuple[str, int]:
    """And where the question ends, its type and class included."""
    labels, at = [], 12
    while size := question[at]:
        labels.append(question[at + 1 : at + 1 + size].decode("ascii").lower())
        at += 1 + size
    return ".".join(labels), at + 5


def _answer(question: bytes, end: int, address: str) -> bytes:
    is_wanted = int.from_bytes(question[end - 4 : end - 2]) == TYPE_A
    head = question[:2] + FLAGS_ANSWER + bytes([0, 1, 0, is_wanted, 0, 0, 0, 0])
    record = b"\xc0\x0c" + bytes([0, 1, 0, 1, 0, 0, 0, 0, 0, 4]) + socket.inet_aton(address)
    return head + question[12:end] + (record if is_wanted else b"")


@contextmanager
def serving_names(folder: Path, known: Mapping[str, str]) -> Iterator[NameServer]:
    server = NameServer(folder, known)
    try:
        _require_mounts(server.environ()[RESOLVER_FILE])
        yield server
    finally:
        server.close()


def _require_mounts(path: str) -> None:
    command = [sys.executable, "-c", f"from tests.flow.names import use_resolver_file as use; use({path!r})"]
    tried = subprocess.run(command, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this machine does not let a process have its own {SYSTEMS_RESOLVER_FILE}: {tried.stderr[-200:]}")
