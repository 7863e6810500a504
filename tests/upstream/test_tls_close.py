"""TLS responses are complete if the connection closes right after them, as it does for all orders."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.config.account_proxy import Proxy
from gateway.upstream.seller_client import CallOptions, SellerClient
from gateway.upstream.transport_pool import TransportPool
from providers.adapter import Answer
from tests.upstream.fake_proxies import CONNECT_RESPONSE, make_proxy
from tests.upstream.fake_servers import EVENT_LOOPS, ORDER_CALL, build_response, make_seller
from tests.upstream.tls_certificates import SELLER_HOST, make_client_context, make_server_context, resolve_to_loopback

RESPONSE_SIZES = [300_000, 1_000_000, 3_000_000]
REPETITIONS = 4


@contextlib.contextmanager
def run_closing_server(tls: ssl.SSLContext, size: int, sends_close_notify: bool) -> Iterator[int]:
    """Responds, and closes at once without waiting for the client to read. Yields the port."""

    def serve() -> None:
        for _ in range(REPETITIONS):
            with tls.wrap_socket(listener.accept()[0], server_side=True) as connection:
                while not connection.recv(65_536).endswith(ORDER_CALL.body):
                    pass
                connection.sendall(build_response(b"x" * size, headers=("Connection: close",)))
                if sends_close_notify:
                    connection.setblocking(False)
                    with contextlib.suppress(ssl.SSLWantReadError):
                        connection.unwrap()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@contextlib.contextmanager
def run_tunnel_proxy() -> Iterator[Proxy]:
    """A proxy that forwards all it has read before it closes a connection."""

    def serve() -> None:
        for _ in range(REPETITIONS):
            with listener.accept()[0] as client:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += client.recv(1)
                port = int(head.split(b" ")[1].rpartition(b":")[2])
                with socket.create_connection(("127.0.0.1", port)) as seller_connection:
                    client.sendall(CONNECT_RESPONSE)
                    outgoing_thread = threading.Thread(target=_relay, args=(client, seller_connection))
                    outgoing_thread.start()
                    _relay(seller_connection, client)
                    outgoing_thread.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield make_proxy(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


def _relay(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(ConnectionError, BrokenPipeError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


async def _receive_sizes(certificate: Path, port: int, proxy: Proxy | None = None) -> Sequence[int | None]:
    options, seller = (
        CallOptions(timeout_seconds=20.0, fresh_connection=True),
        make_seller(f"https://{SELLER_HOST}:{port}", proxy=proxy),
    )
    async with SellerClient(TransportPool(resolve_to_loopback, make_client_context(certificate))) as client:
        answers = [await client.send(ORDER_CALL, seller, options) for _ in range(REPETITIONS)]
    return [len(answer.body) if isinstance(answer, Answer) else None for answer in answers]


@pytest.mark.parametrize("loop", EVENT_LOOPS)
@pytest.mark.parametrize("sends_close_notify", [True, False])
@pytest.mark.parametrize("size", RESPONSE_SIZES)
def test_large_response_is_complete_when_the_connection_closes_after_it(
    certificate: Path, size: int, sends_close_notify: bool, loop: str
) -> None:
    with run_closing_server(make_server_context(certificate), size, sends_close_notify) as port:
        sizes: list[Sequence[int | None]] = []

        async def send_orders() -> None:
            sizes.append(await _receive_sizes(certificate, port))

        EVENT_LOOPS[loop](send_orders())
    assert sizes == [[size] * REPETITIONS]


@pytest.mark.parametrize("loop", EVENT_LOOPS)
@pytest.mark.parametrize("size", RESPONSE_SIZES)
def test_large_response_through_a_tunnel_is_complete(certificate: Path, size: int, loop: str) -> None:
    with (
        run_closing_server(make_server_context(certificate), size, sends_close_notify=False) as port,
        run_tunnel_proxy() as proxy,
    ):
        sizes: list[Sequence[int | None]] = []

        async def send_orders() -> None:
            sizes.append(await _receive_sizes(certificate, port, proxy))

        EVENT_LOOPS[loop](send_orders())
    assert sizes == [[size] * REPETITIONS]
