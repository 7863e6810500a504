"""Hosts that a proxy is never asked for, although the proxy's own address may be anywhere."""

import httpx
import pytest

from gateway.memory_budget import MemoryBudget
from gateway.upstream import address_guard
from gateway.upstream.download import DownloadError, DownloadRequest, download
from gateway.upstream.proxy_transport import ProxyTransport
from gateway.upstream.seller_client import SellerClient
from providers.adapter import Answer, Call
from providers.faults import FaultKind
from providers.order_status import NoAnswer
from tests.upstream.fake_proxies import ProxyEnvironment, make_proxy, make_rejecting_proxy
from tests.upstream.fake_servers import (
    ORDER_CALL,
    QUICK_OPTIONS,
    get_fault,
    get_fault_kind,
    make_seller,
    run_async,
    run_server,
    serve_requests,
)
from tests.upstream.sample_addresses import PRIVATE_FORMS, PUBLIC_ADDRESSES

LOCAL_HOSTS = [
    *("redis", "LOCALHOST.", "x.localhost", "printer.local", "metadata.google.internal", "metadata.google.internal."),
    *("gateway.corp", "nas.lan", "nas.home.arpa", "wiki.intranet", "a.0x7f", "a.1", "1.1.1.1.", "a..example", "."),
    *("seller.example%2elocal", "1.1.1.1%00.example", "*.example"),
]
PUBLIC_HOSTS = ["seller.example", "SELLER.Example.", "a-b.c_d.xn--p1ai", "7.seller.example", "127.0.0.1.example"]


@pytest.mark.parametrize("host", [*LOCAL_HOSTS, *(form.strip("[]") for form in PRIVATE_FORMS)])
def test_local_host_is_not_public(host: str) -> None:
    assert not address_guard.is_public_host(host)


@pytest.mark.parametrize("host", [*PUBLIC_HOSTS, *PUBLIC_ADDRESSES])
def test_ordinary_host_is_public(host: str) -> None:
    assert address_guard.is_public_host(host)


@pytest.mark.parametrize("form", [*PRIVATE_FORMS, *LOCAL_HOSTS])
def test_proxy_is_never_asked_for_a_private_host(form: str) -> None:
    async def scenario() -> None:
        async with run_server(serve_requests) as proxy, SellerClient() as client:
            proxy_config = make_proxy(proxy.url)
            for url in (f"https://{form}/", f"https://{form}:8443/", f"http://{form}:8080/"):
                order = await client.send(
                    ORDER_CALL,
                    make_seller(url.rstrip("/"), allows_private_addresses=False, proxy=proxy_config),
                    QUICK_OPTIONS,
                )
                assert get_fault_kind(order) is FaultKind.NOT_SENT
                put = Call(method="PUT", location=url, body=b"pngdata", is_presigned=True)
                upload = await client.send(
                    put,
                    make_seller("https://seller.example", allows_private_addresses=False, proxy=proxy_config),
                    QUICK_OPTIONS,
                )
                assert get_fault_kind(upload) is FaultKind.NOT_SENT
                with pytest.raises(DownloadError) as raised:
                    await client.download(url, False, proxy=proxy_config)
                assert raised.value.is_permanent
            assert proxy.connection_count == 0

    run_async(scenario())


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("https://seller.example", False),
        ("https://93.184.215.14", False),
        ("https://10.1.2.3", True),
        ("https://seller", True),
    ],
)
def test_other_hosts_are_left_to_the_proxy(url: str, private: bool) -> None:
    async def scenario() -> tuple[Answer | NoAnswer, int]:
        async with run_server(make_rejecting_proxy("403 Forbidden")) as proxy, SellerClient() as client:
            account = make_seller(url, allows_private_addresses=private, proxy=make_proxy(proxy.url))
            return await client.send(ORDER_CALL, account, QUICK_OPTIONS), proxy.connection_count

    outcome, connections = run_async(scenario())
    assert get_fault(outcome).message == "ProxyStatus403"
    assert connections == 1


def test_proxy_of_a_public_account_may_have_a_private_address(tunnel_environment: ProxyEnvironment) -> None:
    async def scenario() -> None:
        async with tunnel_environment.start_servers() as setup:
            by_name = make_proxy(setup.proxy.url.replace("127.0.0.1", "proxy.internal"))
            for proxy in (make_proxy(setup.proxy.url), by_name):
                public = setup.make_seller(allows_private_addresses=False, proxy=proxy)
                assert isinstance(await setup.client.send(ORDER_CALL, public, QUICK_OPTIONS), Answer)

    run_async(scenario())


@pytest.mark.parametrize("target", ["https://127.0.0.1/", "https://169.254.169.254/", "https://redis/"])
def test_redirect_to_a_private_host_is_not_sent_to_the_proxy(target: str) -> None:
    hosts: list[str] = []

    def redirect(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(302, headers={"location": target})

    transport = ProxyTransport(
        httpx.MockTransport(redirect), make_proxy("http://127.0.0.1:1"), address_guard.is_public_host
    )
    with pytest.raises(DownloadError) as raised:
        run_async(
            download(
                transport,
                DownloadRequest("https://seller.example/", False, ""),
                MemoryBudget().make_incoming_reservation,
            )
        )
    assert raised.value.is_permanent
    assert hosts == ["seller.example"]
