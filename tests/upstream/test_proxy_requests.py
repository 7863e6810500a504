"""Requests through an account's proxy: their form, and the connections that they use."""

from pathlib import Path

import pytest

from gateway.timeouts_and_intervals import ConnectionTiming
from gateway.upstream.seller_client import CallOptions
from providers.adapter import Answer, Call
from tests.harness.wait import wait_until_async
from tests.upstream.fake_proxies import BASIC_CREDENTIALS, ProxyEnvironment, make_forwarder, make_proxy
from tests.upstream.fake_servers import (
    API_KEY,
    ORDER_CALL,
    QUICK_OPTIONS,
    build_response,
    make_responder,
    make_seller,
    run_async,
    run_server,
    serve_requests,
)


def test_order_and_response_pass_the_proxy(proxy_environment: ProxyEnvironment) -> None:
    async def scenario() -> None:
        async with proxy_environment.start_servers(make_responder(build_response(b"y" * 300_000))) as setup:
            outcome = await setup.send_order()
            assert isinstance(outcome, Answer), outcome
            assert (outcome.status, len(outcome.body)) == (200, 300_000)
            assert b"authorization: bearer " + API_KEY.encode() in setup.seller.request_heads[0].lower()
            assert setup.proxy.connection_count == 1

    run_async(scenario())


def test_tunnel_is_requested_by_hostname_and_hides_the_order(tunnel_environment: ProxyEnvironment) -> None:
    async def scenario() -> bytes:
        async with tunnel_environment.start_servers() as setup:
            assert isinstance(await setup.send_order(), Answer)
            assert b"proxy-" not in setup.seller.request_heads[0].lower()
            assert setup.seller.request_heads[0].startswith(b"POST /things HTTP/1.1\r\n")
            return setup.proxy.request_heads[0].replace(str(setup.seller.port).encode(), b"PORT")

    head = run_async(scenario())
    assert head.startswith(b"CONNECT seller.example:PORT HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {BASIC_CREDENTIALS}".encode() in head
    assert API_KEY.encode() not in head
    assert b"aiohttp" not in head.lower()
    assert b"connection: close" not in head.lower()


def test_plain_http_proxy_is_sent_the_exact_full_url(certificate: Path) -> None:
    """The URL is sent byte for byte as signed."""
    path = "/bucket/a%2Fb%20c/~d?X-Sig=a%2Fb%2B%3D&empty=&x=%7e"

    async def scenario() -> bytes:
        async with ProxyEnvironment(certificate, "http").start_servers() as setup:
            put = Call(method="PUT", location=setup.seller_origin + path, body=b"pngdata", is_presigned=True)
            assert isinstance(await setup.send_order(put), Answer)
            assert b"proxy-" not in setup.seller.request_heads[0].lower()
            return setup.proxy.request_heads[0].replace(str(setup.seller.port).encode(), b"PORT")

    head = run_async(scenario())
    assert head.startswith(f"PUT http://seller.example:PORT{path} HTTP/1.1\r\n".encode())
    assert f"Proxy-Authorization: Basic {BASIC_CREDENTIALS}".encode().lower() in head.lower()
    assert b"host: seller.example:port" in head.lower()


def test_proxy_without_credentials_is_sent_none(proxy_environment: ProxyEnvironment) -> None:
    async def scenario() -> list[bytes]:
        async with proxy_environment.start_servers() as setup:
            assert isinstance(await setup.client.send(ORDER_CALL, setup.make_seller(), QUICK_OPTIONS), Answer)
            return setup.proxy.request_heads

    assert b"proxy-authorization" not in b"".join(run_async(scenario())).lower()


def test_downloads_and_uploads_pass_the_proxy(proxy_environment: ProxyEnvironment) -> None:
    async def scenario() -> None:
        async with proxy_environment.start_servers() as setup:
            url = f"{setup.seller_origin}/image?X-Sig=1"
            proxy = make_proxy(setup.proxy.url, with_credentials=True)
            assert await setup.client.download(url, True, proxy=proxy) == b"{}"
            put = Call(method="PUT", location=url, body=b"pngdata", is_presigned=True)
            assert isinstance(await setup.send_order(put), Answer)
            assert len(setup.seller.request_heads) == 2
            assert not [head for head in setup.seller.request_heads if b"\r\nauthorization" in head.lower()]
            assert setup.proxy.connection_count == setup.seller.connection_count

    run_async(scenario())


def test_accounts_without_a_proxy_connect_directly(certificate: Path) -> None:
    async def scenario() -> None:
        async with ProxyEnvironment(certificate, "http").start_servers() as setup:
            direct = make_seller(setup.seller.url)
            assert isinstance(await setup.client.send(ORDER_CALL, direct, QUICK_OPTIONS), Answer)
            assert await setup.client.download(setup.seller.url, True) == b"{}"
            assert (setup.proxy.connection_count, setup.seller.connection_count) == (0, 2)

    run_async(scenario())


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"])
def test_proxy_environment_variables_are_ignored(
    name: str, proxy_environment: ProxyEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with proxy_environment.start_servers() as setup, run_server(serve_requests) as other:
            monkeypatch.setenv(name, other.url)
            monkeypatch.setenv("no_proxy", "*")
            assert isinstance(await setup.send_order(), Answer)
            assert (setup.proxy.connection_count, other.connection_count) == (1, 0)

    run_async(scenario())


# --- connections


@pytest.mark.parametrize(("fresh_connection", "connections"), [(True, 2), (False, 1)], ids=["fresh", "reused"])
def test_fresh_orders_use_no_connection_that_was_idle_for_long(
    fresh_connection: bool, connections: int, proxy_environment: ProxyEnvironment
) -> None:
    timing = ConnectionTiming(fresh_connection_seconds=0.0)

    async def scenario() -> tuple[int, int]:
        async with proxy_environment.start_servers(timing=timing) as setup:
            for _ in range(2):
                assert isinstance(
                    await setup.send_order(
                        options=CallOptions(timeout_seconds=30.0, fresh_connection=fresh_connection)
                    ),
                    Answer,
                )
            return setup.proxy.connection_count, setup.seller.connection_count

    assert run_async(scenario()) == (connections, connections)


def test_changed_proxy_or_credentials_open_a_new_connection(proxy_environment: ProxyEnvironment) -> None:
    """Unused connections close after their idle timeout."""
    timing = ConnectionTiming(keepalive_seconds=0.2)

    async def scenario() -> None:
        async with proxy_environment.start_servers(timing=timing) as setup, run_server(make_forwarder()) as other:
            assert isinstance(await setup.send_order(), Answer)
            assert isinstance(await setup.client.send(ORDER_CALL, setup.make_seller(), QUICK_OPTIONS), Answer)
            assert setup.proxy.connection_count == 2
            changed = setup.make_seller(proxy=make_proxy(other.url))
            assert isinstance(await setup.client.send(ORDER_CALL, changed, QUICK_OPTIONS), Answer)
            assert isinstance(
                await setup.client.send(
                    ORDER_CALL, make_seller(setup.seller_origin, proxy=changed.account.proxy), QUICK_OPTIONS
                ),
                Answer,
            )
            assert (setup.proxy.connection_count, other.connection_count) == (2, 1)
            await wait_until_async(
                lambda: setup.proxy.open_connections == 0, "all connections are closed", timeout_seconds=10.0
            )

    run_async(scenario())
