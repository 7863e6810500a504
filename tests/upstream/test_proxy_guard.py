"""What a proxy is never asked for, although the proxy itself may live anywhere."""

import httpx
import pytest

from gateway.upstream import guard
from gateway.upstream.budget import ByteBudget
from gateway.upstream.client import Upstream
from gateway.upstream.download import DownloadError, Wanted, download
from gateway.upstream.proxied import ThroughProxy
from providers.faults import FaultKind
from providers.progress import Unanswered
from providers.spec import Answer, Call
from tests.upstream.proxies import Town, proxy_at, refuses
from tests.upstream.servers import ORDER, QUICK, kind, run, seller, server, serves
from tests.upstream.test_guard import FORMS, PUBLIC

LOCAL = [
    *("redis", "LOCALHOST.", "x.localhost", "printer.local", "metadata.google.internal", "metadata.google.internal."),
    *("gateway.corp", "nas.lan", "nas.home.arpa", "wiki.intranet", "a.0x7f", "a.1", "1.1.1.1.", "a..example", "."),
    *("seller.example%2elocal", "1.1.1.1%00.example", "*.example"),
]
NAMES = ["seller.example", "SELLER.Example.", "a-b.c_d.xn--p1ai", "7.seller.example", "127.0.0.1.example"]


@pytest.mark.parametrize("host", [*LOCAL, *(form.strip("[]") for form in FORMS)])
def test_no_such_host_sounds_public(host: str) -> None:
    assert not guard.sounds_public(host)


@pytest.mark.parametrize("host", [*NAMES, *PUBLIC])
def test_ordinary_hosts_sound_public(host: str) -> None:
    assert guard.sounds_public(host)


@pytest.mark.parametrize("form", [*FORMS, *LOCAL])
def test_a_proxy_is_asked_for_no_place_inside(form: str) -> None:
    async def asks() -> None:
        async with server(serves) as proxy, Upstream() as upstream:
            through = proxy_at(proxy.url)
            for url in (f"https://{form}/", f"https://{form}:8443/", f"http://{form}:8080/"):
                order = await upstream.perform(ORDER, seller(url.rstrip("/"), private=False, proxy=through), QUICK)
                assert kind(order) is FaultKind.NOT_SENT
                put = Call(method="PUT", location=url, body=b"picture", presigned=True)
                upload = await upstream.perform(
                    put, seller("https://seller.example", private=False, proxy=through), QUICK
                )
                assert kind(upload) is FaultKind.NOT_SENT
                with pytest.raises(DownloadError) as raised:
                    await upstream.download(url, False, proxy=through)
                assert raised.value.gone
            assert proxy.connections == 0

    run(asks())


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("https://seller.example", False),
        ("https://93.184.215.14", False),
        ("https://10.1.2.3", True),
        ("https://seller", True),
    ],
)
def test_everything_else_is_for_the_proxy_to_judge(url: str, private: bool) -> None:
    async def asks() -> tuple[Answer | Unanswered, int]:
        async with server(refuses("403 Forbidden")) as proxy, Upstream() as upstream:
            account = seller(url, private=private, proxy=proxy_at(proxy.url))
            return await upstream.perform(ORDER, account, QUICK), proxy.connections

    outcome, connections = run(asks())
    assert isinstance(outcome, Unanswered)
    assert outcome.fault.message == "ProxyAnswered403"
    assert connections == 1


def test_the_proxy_of_a_public_account_may_live_in_our_own_network(tunnels: Town) -> None:
    async def asks() -> None:
        async with tunnels.street() as street:
            by_name = proxy_at(street.proxy.url.replace("127.0.0.1", "proxy.internal"))
            for proxy in (proxy_at(street.proxy.url), by_name):
                public = street.account(private=False, proxy=proxy)
                assert isinstance(await street.upstream.perform(ORDER, public, QUICK), Answer)

    run(asks())


@pytest.mark.parametrize("target", ["https://127.0.0.1/", "https://169.254.169.254/", "https://redis/"])
def test_no_redirect_leads_a_proxy_inside(target: str) -> None:
    hosts: list[str] = []

    def redirects(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(302, headers={"location": target})

    way = ThroughProxy(httpx.MockTransport(redirects), proxy_at("http://127.0.0.1:1"), guard.sounds_public)
    with pytest.raises(DownloadError) as raised:
        run(download(way, Wanted("https://seller.example/", False, ""), ByteBudget().share))
    assert raised.value.gone
    assert hosts == ["seller.example"]
