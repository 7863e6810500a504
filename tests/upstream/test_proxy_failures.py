"""Every way in which a proxy can fail: not sent, or response lost; and where credentials may appear."""

import asyncio
import gc
import logging
import random
import socket
from pathlib import Path

import pytest

from gateway.upstream.download import DownloadError, DownloadLimits
from gateway.upstream.seller_client import CallOptions
from providers.adapter import Answer, Call
from providers.faults import FaultKind
from providers.order_status import NoAnswer
from tests.harness.wait import wait_until_async
from tests.upstream.fake_proxies import (
    BASIC_CREDENTIALS,
    ProxyEnvironment,
    make_forwarder,
    make_proxy,
    make_rejecting_proxy,
)
from tests.upstream.fake_servers import (
    API_KEY,
    EVENT_LOOPS,
    GET_CALL,
    ORDER_CALL,
    QUICK_OPTIONS,
    ConnectionHandler,
    build_response,
    count_open_files,
    get_fault,
    get_fault_kind,
    hang_forever,
    keep_hanging,
    make_responder,
    make_seller,
    make_sequence,
    read_request,
    reset_connection,
    run_async,
)
from tests.upstream.tls_certificates import SELLER_HOST


async def _close_during_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await reader.read(10)


TUNNEL_FAILURES = {
    "wants other credentials": (make_rejecting_proxy("407 Proxy Authentication Required"), "ProxyStatus407"),
    "forbids it": (make_rejecting_proxy("403 Forbidden"), "ProxyStatus403"),
    "finds no seller": (make_rejecting_proxy("502 Bad Gateway"), "ProxyStatus502"),
    "is busy": (make_rejecting_proxy("503 Service Unavailable"), "ProxyStatus503"),
    "redirects": (
        make_responder(build_response(b"", "302 Found", ["Location: http://127.0.0.1:1/"])),
        "ProxyStatus302",
    ),
    "hangs up": (make_responder(b""), "ServerDisconnectedError"),
    "resets": (make_sequence(make_responder(b""), reset_connection), None),
    "sends garbage": (make_responder(b"SSH-2.0-OpenSSH_9.2p1\r\n"), None),
    "sends half a head": (make_responder(b"HTTP/1.1 200 Connection est"), None),
    "sends endless headers": (make_responder(b"HTTP/1.1 200 OK\r\n" + b"x-filler: 0123456789\r\n" * 100_000), None),
    "hangs up on the handshake": (_close_during_handshake, None),
}


@pytest.mark.parametrize("call", [GET_CALL, ORDER_CALL], ids=["get", "order"])
@pytest.mark.parametrize("name", TUNNEL_FAILURES)
def test_failed_tunnel_is_not_sent(name: str, call: Call, tunnel_environment: ProxyEnvironment) -> None:
    handle, message = TUNNEL_FAILURES[name]

    async def scenario() -> Answer | NoAnswer:
        async with tunnel_environment.start_servers(handle_proxy=handle) as setup:
            before = count_open_files()
            outcome = await setup.send_order(call, CallOptions(timeout_seconds=30.0, fresh_connection=True))
            assert setup.seller.request_heads == []
            await wait_until_async(lambda: count_open_files() <= before, "all sockets are closed", timeout_seconds=10.0)
            return outcome

    outcome = run_async(scenario())
    assert get_fault_kind(outcome) is FaultKind.NOT_SENT
    assert message in (None, get_fault(outcome).message)


SLOW_PROXIES = {
    "hangs": hang_forever,
    "hangs after the request": make_sequence(make_responder(b""), keep_hanging),
    "hangs within its response": make_sequence(make_responder(b"HTTP/1.1 200 Conn"), keep_hanging),
    "hangs within the handshake": make_sequence(make_responder(b"HTTP/1.1 200 OK\r\n\r\n"), keep_hanging),
    "sends endless interim responses": make_responder(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 400, interval=0.05),
    "sends a byte each 0.2 s": make_responder(
        *(bytes([byte]) for byte in b"HTTP/1.1 200 OK and more\r\n\r\n"), interval=0.2
    ),
}


@pytest.mark.parametrize(
    "options", [CallOptions(30.0, connect_timeout_seconds=0.3), CallOptions(0.3)], ids=["connect", "whole"]
)
@pytest.mark.parametrize("name", SLOW_PROXIES)
def test_slow_tunnel_times_out_and_is_not_sent(
    name: str, options: CallOptions, tunnel_environment: ProxyEnvironment
) -> None:
    async def scenario() -> Answer | NoAnswer:
        async with tunnel_environment.start_servers(handle_proxy=SLOW_PROXIES[name]) as setup:
            return await setup.send_order(options=options)

    assert get_fault_kind(run_async(scenario())) is FaultKind.NOT_SENT


def test_unreachable_proxy_is_not_sent(proxy_environment: ProxyEnvironment) -> None:
    """The call is not sent without the proxy."""

    async def scenario() -> tuple[Answer | NoAnswer, int]:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            async with proxy_environment.start_servers() as setup:
                unreachable = setup.make_seller(proxy=make_proxy(f"http://127.0.0.1:{reserved.getsockname()[1]}"))
                return await setup.client.send(ORDER_CALL, unreachable, QUICK_OPTIONS), setup.seller.connection_count

    outcome, connections = run_async(scenario())
    assert get_fault_kind(outcome) is FaultKind.NOT_SENT
    assert get_fault(outcome).message == "ProxyConnectionRefusedError"
    assert connections == 0


def test_certificate_for_another_host_is_rejected_through_a_tunnel(tunnel_environment: ProxyEnvironment) -> None:
    async def scenario() -> None:
        async with tunnel_environment.start_servers() as setup:
            other = make_seller(
                setup.seller_origin.replace(SELLER_HOST, "other.example"), proxy=make_proxy(setup.proxy.url)
            )
            outcome = await setup.client.send(ORDER_CALL, other, QUICK_OPTIONS)
            assert get_fault_kind(outcome) is FaultKind.NOT_SENT
            assert setup.seller.request_heads == []

    run_async(scenario())


@pytest.mark.parametrize("fresh_connection", [True, False], ids=["fresh", "reused"])
def test_order_on_a_failing_proxy_is_response_lost_and_not_resent(
    fresh_connection: bool, proxy_environment: ProxyEnvironment
) -> None:
    async def scenario() -> None:
        was_received = asyncio.Event()

        async def read_and_hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await read_request(reader)
            was_received.set()
            await asyncio.sleep(3600)

        async with proxy_environment.start_servers(read_and_hang, make_forwarder(stop_event=was_received)) as setup:
            outcome = await setup.send_order(
                options=CallOptions(timeout_seconds=30.0, fresh_connection=fresh_connection)
            )
            assert get_fault_kind(outcome) is FaultKind.RESPONSE_LOST
            assert len(setup.seller.request_heads) == 1

    run_async(scenario())


def test_timeout_and_size_limit_apply_behind_a_proxy(proxy_environment: ProxyEnvironment) -> None:
    async def scenario() -> None:
        async with proxy_environment.start_servers(
            make_sequence(make_responder(b"HTTP/1.1 200 OK\r\nContent-Le"), keep_hanging)
        ) as setup:
            assert (
                get_fault_kind(await setup.send_order(options=CallOptions(timeout_seconds=0.5)))
                is FaultKind.RESPONSE_LOST
            )
        async with proxy_environment.start_servers(
            make_responder(b"HTTP/1.1 200 OK\r\n\r\n", *[b"0" * 65536] * 200)
        ) as setup:
            options = CallOptions(timeout_seconds=30.0, max_response_bytes=100_000)
            assert get_fault_kind(await setup.send_order(options=options)) is FaultKind.UNREADABLE
            proxy = make_proxy(setup.proxy.url)
            with pytest.raises(DownloadError) as raised:
                await setup.client.download(setup.seller_origin, True, DownloadLimits(max_bytes=1000), proxy)
            assert raised.value.is_permanent

    run_async(scenario())


@pytest.mark.parametrize("status", [403, 407, 502])
def test_plain_http_proxy_error_is_returned_as_the_sellers_answer(status: int, certificate: Path) -> None:
    async def scenario() -> Answer | NoAnswer:
        async with ProxyEnvironment(certificate, "http").start_servers(
            handle_proxy=make_rejecting_proxy(f"{status} No")
        ) as setup:
            return await setup.send_order()

    outcome = run_async(scenario())
    assert isinstance(outcome, Answer)
    assert outcome.status == status


# --- leaks


def _make_slow_proxy(chance: random.Random) -> ConnectionHandler:
    async def forward_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(chance.random() * 0.01)
        await make_forwarder()(reader, writer)

    return forward_slowly


@pytest.mark.one_in(4)
@pytest.mark.parametrize("loop", EVENT_LOOPS)
def test_cancelled_proxy_requests_leak_nothing(loop: str, proxy_environment: ProxyEnvironment) -> None:
    async def scenario() -> None:
        chance = random.Random(5)  # noqa: S311
        async with proxy_environment.start_servers(handle_proxy=_make_slow_proxy(chance)) as setup:
            before, tasks = count_open_files(), len(asyncio.all_tasks())

            async def send_and_cancel(seconds: float) -> None:
                sending = asyncio.create_task(
                    setup.send_order(options=CallOptions(30.0, fresh_connection=chance.random() < 0.5))
                )
                await asyncio.wait([sending], timeout=seconds)
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

            for _ in range(10):
                await asyncio.gather(*(send_and_cancel(chance.random() * 0.05) for _ in range(20)))
            outcomes = await asyncio.gather(*(setup.send_order() for _ in range(20)))
            assert all(isinstance(outcome, Answer) for outcome in outcomes), outcomes
            assert setup.client.memory_budget.reserved_bytes == 0
            await setup.client.aclose()
            gc.collect()
            await wait_until_async(
                lambda: setup.proxy.open_connections == setup.seller.open_connections == 0,
                "all connections are closed",
                timeout_seconds=10.0,
            )
            await wait_until_async(
                lambda: len(asyncio.all_tasks()) <= tasks, "all tasks have ended", timeout_seconds=10.0
            )
            await wait_until_async(lambda: count_open_files() <= before, "all sockets are closed", timeout_seconds=10.0)

    EVENT_LOOPS[loop](scenario())


@pytest.mark.parametrize("loop", EVENT_LOOPS)
def test_cancelling_an_unread_large_order_behind_a_proxy_closes_connections(
    loop: str, proxy_environment: ProxyEnvironment
) -> None:
    async def scenario() -> None:
        async with proxy_environment.start_servers(hang_forever) as setup:
            before = count_open_files()
            large = Call(method="POST", location="/", body=b"x" * (30 << 20))
            sending = asyncio.create_task(setup.send_order(large, CallOptions(timeout_seconds=30.0)))
            await asyncio.sleep(0.3)
            sending.cancel()
            await asyncio.wait([sending])
            assert sending.cancelled()
            # The proxy has not noticed and keeps its two connections; the seller keeps its one.
            await wait_until_async(
                lambda: count_open_files() <= before + 3,
                "only the servers keep their three sockets",
                timeout_seconds=10.0,
            )

    EVENT_LOOPS[loop](scenario())


@pytest.mark.parametrize("loop", EVENT_LOOPS)
def test_closing_the_client_while_connecting_leaks_nothing(loop: str, tunnel_environment: ProxyEnvironment) -> None:
    async def scenario() -> None:
        async with tunnel_environment.start_servers(handle_proxy=hang_forever) as setup:
            before = count_open_files()
            sending = asyncio.create_task(setup.send_order(options=CallOptions(timeout_seconds=30.0)))
            await wait_until_async(lambda: setup.proxy.connection_count == 1, "the proxy has a connection")
            await setup.client.aclose()
            sending.cancel()
            await asyncio.wait([sending])
            gc.collect()
            # The proxy's end stays open, since it does not read.
            await wait_until_async(
                lambda: count_open_files() <= before + 1, "only the server keeps its socket", timeout_seconds=10.0
            )

    EVENT_LOOPS[loop](scenario())


# --- secrets


@pytest.mark.parametrize("name", TUNNEL_FAILURES)
def test_proxy_credentials_are_never_logged_or_reported(
    name: str, proxy_environment: ProxyEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    limits = DownloadLimits(timeout_seconds=1.0)

    async def scenario() -> str:
        async with proxy_environment.start_servers(handle_proxy=TUNNEL_FAILURES[name][0]) as setup:
            output = repr(await setup.send_order(options=CallOptions(timeout_seconds=1.0))) + repr(
                setup.make_seller(with_credentials=True)
            )
            with pytest.raises(DownloadError) as raised:
                await setup.client.download(
                    setup.seller_origin, True, limits, make_proxy(setup.proxy.url, with_credentials=True)
                )
            assert (raised.value.__cause__, raised.value.__context__) == (None, None)
            return output + repr(raised.value)

    output = run_async(scenario()) + caplog.text
    assert "canary" not in output.replace(API_KEY, "")
    assert BASIC_CREDENTIALS not in output
