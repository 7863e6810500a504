"""TLS fails closed: nothing is sent without a valid certificate."""

import asyncio
import gc
import random
import ssl
from pathlib import Path

import pytest

from gateway.upstream.seller_client import CallOptions, SellerClient
from gateway.upstream.transport_pool import TransportPool
from providers.adapter import Answer
from providers.faults import FaultKind
from providers.order_status import NoAnswer
from tests.harness.wait import wait_until_async
from tests.upstream.fake_servers import (
    EVENT_LOOPS,
    ORDER_CALL,
    QUICK_OPTIONS,
    build_response,
    count_open_files,
    get_fault,
    get_fault_kind,
    hang_forever,
    make_seller,
    read_request,
    run_async,
    run_server,
    serve_requests,
)
from tests.upstream.tls_certificates import SELLER_HOST, make_client_context, make_server_context, resolve_to_loopback


async def _send_to_tls_server(
    certificate: Path, hostname: str, tls: ssl.SSLContext | None
) -> tuple[Answer | NoAnswer, list[bytes]]:
    async with (
        run_server(serve_requests, make_server_context(certificate)) as server,
        SellerClient(TransportPool(resolve_to_loopback, tls)) as client,
    ):
        outcome = await client.send(ORDER_CALL, make_seller(f"https://{hostname}:{server.port}"), QUICK_OPTIONS)
        return outcome, server.request_heads


def test_self_signed_certificate_is_rejected(certificate: Path) -> None:
    outcome, requests = run_async(_send_to_tls_server(certificate, SELLER_HOST, None))
    assert get_fault_kind(outcome) is FaultKind.NOT_SENT
    assert get_fault(outcome).message == "SSLCertVerificationError"
    assert requests == []


def test_certificate_for_another_host_is_rejected(certificate: Path) -> None:
    outcome, requests = run_async(_send_to_tls_server(certificate, "other.example", make_client_context(certificate)))
    assert get_fault_kind(outcome) is FaultKind.NOT_SENT
    assert requests == []


def test_certificate_is_checked_against_the_hostname(certificate: Path) -> None:
    """The hostname counts, although the connection is made to an address that was resolved before."""
    outcome, requests = run_async(_send_to_tls_server(certificate, SELLER_HOST, make_client_context(certificate)))
    assert isinstance(outcome, Answer)
    assert len(requests) == 1


def test_server_without_tls_is_not_sent() -> None:
    async def respond_without_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(build_response(b"", "400 Plain HTTP here"))
        await writer.drain()

    async def send_order() -> Answer | NoAnswer:
        async with run_server(respond_without_tls) as server, SellerClient() as client:
            return await client.send(ORDER_CALL, make_seller(f"https://127.0.0.1:{server.port}"), QUICK_OPTIONS)

    assert get_fault_kind(run_async(send_order())) is FaultKind.NOT_SENT


def test_hanging_tls_handshake_is_not_sent() -> None:
    async def send_order(options: CallOptions) -> Answer | NoAnswer:
        async with run_server(hang_forever) as server, SellerClient() as client:
            return await client.send(ORDER_CALL, make_seller(f"https://127.0.0.1:{server.port}"), options)

    assert (
        get_fault_kind(run_async(send_order(CallOptions(timeout_seconds=30.0, connect_timeout_seconds=0.3))))
        is FaultKind.NOT_SENT
    )
    assert get_fault_kind(run_async(send_order(CallOptions(timeout_seconds=0.3)))) is FaultKind.NOT_SENT


def test_connection_closed_during_handshake_is_not_sent() -> None:
    async def close_during_handshake(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(10)

    async def send_order() -> Answer | NoAnswer:
        async with run_server(close_during_handshake) as server, SellerClient() as client:
            return await client.send(ORDER_CALL, make_seller(f"https://127.0.0.1:{server.port}"), QUICK_OPTIONS)

    assert get_fault_kind(run_async(send_order())) is FaultKind.NOT_SENT


def test_connection_closed_after_handshake_is_response_lost(certificate: Path) -> None:
    async def read_and_close(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async def send_order() -> Answer | NoAnswer:
        tls = make_client_context(certificate)
        async with run_server(read_and_close, make_server_context(certificate)) as server:
            async with SellerClient(TransportPool(resolve_to_loopback, tls)) as client:
                return await client.send(ORDER_CALL, make_seller(f"https://{SELLER_HOST}:{server.port}"), QUICK_OPTIONS)

    assert get_fault_kind(run_async(send_order())) is FaultKind.RESPONSE_LOST


@pytest.mark.parametrize("loop", EVENT_LOOPS)
def test_cancelling_during_the_handshake_leaks_nothing(certificate: Path, loop: str) -> None:
    async def scenario() -> None:
        chance = random.Random(3)  # noqa: S311
        async with run_server(serve_requests, make_server_context(certificate)) as server:
            before = count_open_files()
            async with SellerClient(
                TransportPool(resolve_to_loopback, make_client_context(certificate), max_connections=20)
            ) as client:
                seller = make_seller(f"https://{SELLER_HOST}:{server.port}")

                async def send_order(seconds: float) -> Answer | NoAnswer:
                    return await client.send(
                        ORDER_CALL,
                        seller,
                        CallOptions(timeout_seconds=seconds, fresh_connection=chance.random() < 0.5),
                    )

                for _ in range(10):
                    await asyncio.gather(*(send_order(chance.random() * 0.05) for _ in range(20)))
                outcomes = await asyncio.gather(*(send_order(5.0) for _ in range(20)))
                assert all(isinstance(outcome, Answer) for outcome in outcomes)
            gc.collect()
            await wait_until_async(
                lambda: server.open_connections == 0, "all connections are closed", timeout_seconds=10.0
            )
            await wait_until_async(lambda: count_open_files() <= before, "all sockets are closed", timeout_seconds=10.0)

    EVENT_LOOPS[loop](scenario())
