"""Answers that come with the end of their connection, as all to orders do: over TLS they come whole."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.config.proxies import Proxy
from gateway.upstream.client import Exchange, Upstream
from gateway.upstream.transport import Ways
from providers.spec import Answer
from tests.upstream.certified import NAME, at_loopback, speaking, trusting
from tests.upstream.proxies import ESTABLISHED, proxy_at
from tests.upstream.servers import LOOPS, ORDER, answer, seller

SIZES = [300_000, 1_000_000, 3_000_000]
TIMES = 4


@contextlib.contextmanager
def closing_at_once(tls: ssl.SSLContext, size: int, says_goodbye: bool) -> Iterator[int]:
    """Answers so many times, and closes without waiting for the client to have read anything. Yields its port."""

    def serve() -> None:
        for _ in range(TIMES):
            with tls.wrap_socket(listening.accept()[0], server_side=True) as wire:
                while not wire.recv(65_536).endswith(ORDER.body):
                    pass
                wire.sendall(answer(b"x" * size, headers=("Connection: close",)))
                if says_goodbye:
                    wire.setblocking(False)
                    with contextlib.suppress(ssl.SSLWantReadError):
                        wire.unwrap()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve)
        serving.start()
        yield listening.getsockname()[1]
        serving.join()


@contextlib.contextmanager
def tunnelling() -> Iterator[Proxy]:
    """A proxy that passes on all that it has read before it ends a connection."""

    def serve() -> None:
        for _ in range(TIMES):
            with listening.accept()[0] as caller:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += caller.recv(1)
                port = int(head.split(b" ")[1].rpartition(b":")[2])
                with socket.create_connection(("127.0.0.1", port)) as target:
                    caller.sendall(ESTABLISHED)
                    there = threading.Thread(target=_pipe, args=(caller, target))
                    there.start()
                    _pipe(target, caller)
                    there.join()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve)
        serving.start()
        yield proxy_at(f"http://127.0.0.1:{listening.getsockname()[1]}")
        serving.join()


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(ConnectionError, BrokenPipeError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


async def _sizes(certificate: Path, port: int, proxy: Proxy | None = None) -> Sequence[int | None]:
    exchange, asked = Exchange(seconds=20.0, fresh=True), seller(f"https://{NAME}:{port}", proxy=proxy)
    async with Upstream(Ways(at_loopback, trusting(certificate))) as upstream:
        answers = [await upstream.perform(ORDER, asked, exchange) for _ in range(TIMES)]
    return [len(one.body) if isinstance(one, Answer) else None for one in answers]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("says_goodbye", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_a_large_answer_comes_whole_though_its_connection_ends_with_it(
    certificate: Path, size: int, says_goodbye: bool, loop: str
) -> None:
    with closing_at_once(speaking(certificate), size, says_goodbye) as port:
        found: list[Sequence[int | None]] = []

        async def ask() -> None:
            found.append(await _sizes(certificate, port))

        LOOPS[loop](ask())
    assert found == [[size] * TIMES]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("size", SIZES)
def test_it_comes_whole_through_a_tunnel_too(certificate: Path, size: int, loop: str) -> None:
    with closing_at_once(speaking(certificate), size, says_goodbye=False) as port, tunnelling() as proxy:
        found: list[Sequence[int | None]] = []

        async def ask() -> None:
            found.append(await _sizes(certificate, port, proxy))

        LOOPS[loop](ask())
    assert found == [[size] * TIMES]
