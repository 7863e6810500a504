"""No request reaches a private address: 75 spellings of private hosts, by URL, redirect and DNS."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import httpx
import pytest

from gateway.timeouts_and_intervals import ConnectionTiming
from gateway.upstream import address_guard
from gateway.upstream.download import DownloadError
from gateway.upstream.seller_client import SellerClient
from gateway.upstream.transport_pool import TransportOptions, TransportPool
from providers.adapter import Call
from providers.faults import FaultKind
from tests.upstream.fake_servers import (
    QUICK_OPTIONS,
    FakeServer,
    get_fault_kind,
    make_seller,
    run_async,
    run_server,
    serve_requests,
)
from tests.upstream.fake_transports import FixedTransportPool
from tests.upstream.sample_addresses import PRIVATE_ADDRESSES, PRIVATE_FORMS, PUBLIC_ADDRESSES

INVALID_URLS = [
    *("file:///etc/passwd", "gopher://127.0.0.1/", "unix:/run/x.sock", "ftp://1.1.1.1/", "data:,x", "//1.1.1.1/", ""),
    *("https://1.1.1.1:22/", "https://1.1.1.1:80/", "https://1.1.1.1:8443/", "http://1.1.1.1/", "http://1.1.1.1:443/"),
    *("https://user@1.1.1.1/", "https://user:word@1.1.1.1/", "https://1.1.1.1@127.0.0.1/", "https:///x", "https://"),
    *("https://1.1.1.1\\@127.0.0.1/", "https://[::1", "https://[]/", "https://1.1.1.1\r\nx: y/", "https://a b/"),
]


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_private_address_is_not_public(address: str) -> None:
    assert not address_guard.is_public(address)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_ordinary_address_is_public(address: str) -> None:
    assert address_guard.is_public(address)


def test_blocked_networks_embedded_in_ipv6_are_blocked() -> None:
    for network in address_guard._BLOCKED_IPV4:
        for inner in (network[0], network[-1]):
            packed = int(inner)
            for outer in (0, 0xFFFF << 32, 0x64FF9B << 96, 0x2002 << 112):
                mapped = outer | (packed << 80 if outer >> 112 == 0x2002 else packed)
                assert not address_guard.is_public(str(ipaddress.IPv6Address(mapped)))


class CanaryCheck:
    """A canary server on loopback, and a client that must not reach it."""

    def __init__(self, canary: FakeServer, client: SellerClient) -> None:
        self.canary, self.client = canary, client

    async def assert_blocked(self, url: str) -> None:
        put = Call(method="PUT", location=url, body=b"pngdata", is_presigned=True)
        own = make_seller(url.partition("?")[0], allows_private_addresses=False)
        assert get_fault_kind(await self.client.send(put, own, QUICK_OPTIONS)) is FaultKind.NOT_SENT
        if url.startswith("http"):
            order = Call(method="POST", location="/order", body=b"{}")
            assert get_fault_kind(await self.client.send(order, own, QUICK_OPTIONS)) is FaultKind.NOT_SENT
        with pytest.raises(DownloadError) as raised:
            await self.client.download(url, private=False)
        assert "canary" not in f"{raised.value!r} {raised.value.__context__!r}"


async def _assert_all_blocked(urls: Sequence[str], transport_pool: TransportPool | None = None) -> None:
    async with run_server(serve_requests) as canary, SellerClient(transport_pool) as client:
        check = CanaryCheck(canary, client)
        for url in urls:
            await check.assert_blocked(url.replace("PORT", str(canary.port)))
        assert (canary.connection_count, canary.request_heads) == (0, [])


@pytest.mark.parametrize("form", PRIVATE_FORMS)
def test_url_with_a_private_host_is_blocked(form: str) -> None:
    run_async(
        _assert_all_blocked(
            [f"https://{form}/canary?signature=canary", f"https://{form}:PORT/canary", f"http://{form}:PORT/canary"]
        )
    )


@pytest.mark.parametrize("url", INVALID_URLS)
def test_invalid_url_is_never_requested(url: str) -> None:
    async def scenario() -> None:
        async with run_server(serve_requests) as canary, SellerClient() as client:
            with pytest.raises(DownloadError) as raised:
                await client.download(url, private=False)
            assert raised.value.is_permanent
            put = Call(method="PUT", location=url, is_presigned=True)
            outcome = await client.send(
                put, make_seller("https://1.1.1.1", allows_private_addresses=False), QUICK_OPTIONS
            )
            assert get_fault_kind(outcome) is FaultKind.NOT_SENT
            assert canary.connection_count == 0

    run_async(scenario())


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_name_that_resolves_to_a_private_address_is_blocked(address: str) -> None:
    """It is blocked even if only one of its two addresses is private."""

    async def resolve_and_check(answers: Sequence[str]) -> None:
        hosts: list[str] = []

        async def lookup(host: str) -> Sequence[str]:
            hosts.append(host)
            return answers

        await _assert_all_blocked(["https://seller.example/canary"], TransportPool(lookup=lookup))
        assert hosts

    for answers in ([address], ["1.1.1.1", address], [address, "2606:4700:4700::1111"]):
        run_async(resolve_and_check(answers))


@pytest.mark.parametrize("form", PRIVATE_FORMS)
def test_redirect_to_a_private_host_is_blocked(form: str) -> None:
    """The first hop is a public server, simulated by a transport; the second uses the real client."""

    async def scenario() -> None:
        async with run_server(serve_requests) as canary, SellerClient() as client:
            transport_pool = client.transport_pool
            real_transport = transport_pool.get(TransportOptions(private=False, fresh_connection=False))

            async def redirect_or_pass_on(request: httpx.Request) -> httpx.Response:
                if request.url.host == "first.example":
                    return httpx.Response(302, headers=[(b"location", request.url.params["to"].encode())])
                return await real_transport.handle_async_request(request)

            client.transport_pool = FixedTransportPool(httpx.MockTransport(redirect_or_pass_on), transport_pool)
            for target in (f"https://{form}/", f"https://{form}:{canary.port}/", f"http://{form}:{canary.port}/"):
                first = httpx.URL("https://first.example/", params={"to": target})
                with pytest.raises(DownloadError):
                    await client.download(str(first), private=False)
            assert canary.connection_count == 0

    run_async(scenario())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1"])
def test_dns_rebinding_is_blocked(address: str) -> None:
    """The checked address is the one that is connected; each new lookup is checked as well."""
    timing = ConnectionTiming(lookup_cache_ttl_seconds=0.0)
    answers = [["1.1.1.1"], [address], ["1.1.1.1", address]]

    async def lookup(_: str) -> Sequence[str]:
        return answers[0] if len(answers) == 1 else answers.pop(0)

    async def scenario() -> None:
        connecting: list[object] = []
        loop = asyncio.get_running_loop()

        async def connect(sock: socket.socket, address: object) -> None:
            connecting.append(address)
            raise ConnectionRefusedError

        loop.sock_connect = connect  # type: ignore[method-assign]
        async with SellerClient(TransportPool(lookup=lookup, timing=timing)) as client:
            put = Call(method="PUT", location="https://rebinding.example/x", is_presigned=True)
            for _ in range(4):
                outcome = await client.send(
                    put, make_seller("https://1.1.1.1", allows_private_addresses=False), QUICK_OPTIONS
                )
                assert get_fault_kind(outcome) is FaultKind.NOT_SENT
        assert connecting == [("1.1.1.1", 443)]

    run_async(scenario())


def test_checked_address_is_connected_without_a_second_lookup() -> None:
    """Each connection makes one lookup and connects to its result."""
    lookups: list[str] = []

    async def lookup(host: str) -> Sequence[str]:
        lookups.append(host)
        return ["127.0.0.1"]

    async def scenario() -> list[bytes]:
        async with run_server(serve_requests) as server, SellerClient(TransportPool(lookup=lookup)) as client:
            await client.send(
                Call(method="GET", location="/"), make_seller(f"http://named.example:{server.port}"), QUICK_OPTIONS
            )
            return server.request_heads

    assert b"Host: named.example:" in run_async(scenario())[0].replace(b"host:", b"Host:")
    assert lookups == ["named.example"]


def test_disabled_guard_lets_the_requests_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the guard the same calls arrive, so these tests can fail."""
    monkeypatch.setattr(address_guard, "is_public", address_guard.allow_all)

    async def scenario() -> int:
        async with run_server(serve_requests) as canary, SellerClient() as client:
            order = Call(method="GET", location="/order")
            await client.send(
                order, make_seller(f"http://127.0.0.1:{canary.port}", allows_private_addresses=False), QUICK_OPTIONS
            )
            return canary.connection_count

    assert run_async(scenario()) == 1


@pytest.mark.parametrize(
    ("base_url", "is_allowed"),
    [
        ("https://api.example", True),
        ("https://api.example:8443/v1", True),
        ("http://api.example:8080", True),
        ("http://api.example:80", True),
        ("http://api.example", False),
        ("http://api.example/v1:80", False),
    ],
)
def test_plain_http_requires_an_explicit_port(base_url: str, is_allowed: bool) -> None:
    lookups: list[str] = []

    async def lookup(host: str) -> Sequence[str]:
        lookups.append(host)
        return []

    async def send_call() -> None:
        async with SellerClient(TransportPool(lookup=lookup)) as client:
            outcome = await client.send(
                Call(method="GET", location="/"), make_seller(base_url, allows_private_addresses=False), QUICK_OPTIONS
            )
            assert get_fault_kind(outcome) is FaultKind.NOT_SENT

    run_async(send_call())
    assert bool(lookups) is is_allowed
