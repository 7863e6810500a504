"""No way into our own network: 75 spellings of forbidden places × how one gets there. The canary must see nothing."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import httpx
import pytest

from gateway.config.proxies import Proxy
from gateway.upstream import guard, host_lookup
from gateway.upstream.client import Upstream, WaysOut
from gateway.upstream.download import DownloadError
from gateway.upstream.transport import HostSource, Ways
from providers.faults import FaultKind
from providers.spec import Call
from tests.upstream.servers import QUICK, Server, kind, run, seller, server, serves

LOOPBACK = [
    *("127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0x7F.0.0.1", "0177.0.0.1"),
    *("017700000001", "0177.1", "127.0.0.1.", "00127.0.0.1", "127.000.000.001", "0", "0.0.0.0", "0x0", "00"),  # noqa: S104
    *("localhost", "localhost.", "LOCALHOST", "①②⑦.⓪.⓪.①", "127。0。0。1", "127%2e0%2e0%2e1", "%31%32%37.0.0.1"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[0:0:0:0:0:ffff:7f00:0001]", "[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]"),
    *("[2002:7f00:1::]", "[2002:7f00:1::1]", "[2001:0:7f00:1::]", "[::1%25lo]", "[fe80::1%25lo]"),
]
ELSEWHERE = [
    *("10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "100.64.0.1", "100.100.100.200", "169.254.169.254"),
    *("169.254.170.2", "168.63.129.16", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "2852039166", "0xa9fea9fe"),
    *("[fd00:ec2::254]", "[fc00::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[100::1]", "[2001:db8::1]", "[3fff::1]"),
    *("[2001:10::1]", "[2001:2::1]", "[2002:a9fe:a9fe::]", "[64:ff9b::a9fe:a9fe]", "[::ffff:169.254.169.254]"),
    *("[5f00::1]", "[4000::1]", "[e000::1]"),
]
FORMS = [*LOOPBACK, *ELSEWHERE]
# What a name server may answer: addresses only.
ANSWERS = [form.strip("[]") for form in ELSEWHERE if "." in form or ":" in form] + [
    *("127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:0:127.0.0.1"),  # noqa: S104
    *("64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "::1%lo", "fe80::1%lo", "127.1", ""),
]
PUBLIC = ["93.184.215.14", "1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001:82a::200e"]
ODD_URLS = [
    *("file:///etc/passwd", "gopher://127.0.0.1/", "unix:/run/x.sock", "ftp://1.1.1.1/", "data:,x", "//1.1.1.1/", ""),
    *("https://1.1.1.1:22/", "https://1.1.1.1:80/", "https://1.1.1.1:8443/", "http://1.1.1.1/", "http://1.1.1.1:443/"),
    *("https://user@1.1.1.1/", "https://user:word@1.1.1.1/", "https://1.1.1.1@127.0.0.1/", "https:///x", "https://"),
    *("https://1.1.1.1\\@127.0.0.1/", "https://[::1", "https://[]/", "https://1.1.1.1\r\nx: y/", "https://a b/"),
]


@pytest.mark.parametrize("address", ANSWERS)
def test_no_such_address_is_public(address: str) -> None:
    assert not guard.is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_ordinary_addresses_are_public(address: str) -> None:
    assert guard.is_public(address)


def test_every_embedded_form_of_every_refused_network_is_refused() -> None:
    for network in guard._REFUSED_V4:
        for inner in (network[0], network[-1]):
            packed = int(inner)
            for outer in (0, 0xFFFF << 32, 0x64FF9B << 96, 0x2002 << 112):
                mapped = outer | (packed << 80 if outer >> 112 == 0x2002 else packed)
                assert not guard.is_public(str(ipaddress.IPv6Address(mapped)))


class Reached:
    """A canary on loopback, and a client that would reach it if nothing stopped it."""

    def __init__(self, canary: Server, upstream: Upstream) -> None:
        self.canary, self.upstream = canary, upstream

    async def refuses(self, url: str) -> None:
        put = Call(method="PUT", location=url, body=b"picture", presigned=True)
        own = seller(url.partition("?")[0], private=False)
        assert kind(await self.upstream.perform(put, own, QUICK)) is FaultKind.NOT_SENT
        if url.startswith("http"):
            order = Call(method="POST", location="/order", body=b"{}")
            assert kind(await self.upstream.perform(order, own, QUICK)) is FaultKind.NOT_SENT
        with pytest.raises(DownloadError) as raised:
            await self.upstream.download(url, private=False)
        assert "canary" not in f"{raised.value!r} {raised.value.__context__!r}"


async def _each(urls: Sequence[str], ways: Ways | None = None) -> None:
    async with server(serves) as canary, Upstream(ways) as upstream:
        reached = Reached(canary, upstream)
        for url in urls:
            await reached.refuses(url.replace("PORT", str(canary.port)))
        assert (canary.connections, canary.requests) == (0, [])


@pytest.mark.parametrize("form", FORMS)
def test_no_spelling_leads_inside(form: str) -> None:
    run(_each([f"https://{form}/canary?signature=canary", f"https://{form}:PORT/canary", f"http://{form}:PORT/canary"]))


@pytest.mark.parametrize("url", ODD_URLS)
def test_no_odd_address_leads_anywhere(url: str) -> None:
    async def refuses() -> None:
        async with server(serves) as canary, Upstream() as upstream:
            with pytest.raises(DownloadError) as raised:
                await upstream.download(url, private=False)
            assert raised.value.gone
            put = Call(method="PUT", location=url, presigned=True)
            outcome = await upstream.perform(put, seller("https://1.1.1.1", private=False), QUICK)
            assert kind(outcome) is FaultKind.NOT_SENT
            assert canary.connections == 0

    run(refuses())


@pytest.mark.parametrize("address", ANSWERS)
def test_no_answer_of_a_name_server_leads_inside(address: str) -> None:
    """Also not the second of two answers, whichever would have been tried first."""

    async def all_of(answers: Sequence[str]) -> None:
        asked: list[str] = []

        async def lookup(host: str) -> Sequence[str]:
            asked.append(host)
            return answers

        await _each(["https://seller.example/canary"], Ways(lookup=lookup))
        assert asked

    for answers in ([address], ["1.1.1.1", address], [address, "2606:4700:4700::1111"]):
        run(all_of(answers))


@pytest.mark.parametrize("form", FORMS)
def test_no_redirect_leads_inside(form: str) -> None:
    """The first hop is a public server, here played by a transport; the second is the real client's."""

    async def follows() -> None:
        async with server(serves) as canary, Upstream() as upstream:
            ways = upstream.ways
            real = ways.way(private=False, fresh=False)

            async def public(request: httpx.Request) -> httpx.Response:
                if request.url.host == "first.example":
                    return httpx.Response(302, headers=[(b"location", request.url.params["to"].encode())])
                return await real.handle_async_request(request)

            upstream.ways = _Only(httpx.MockTransport(public), ways)
            for target in (f"https://{form}/", f"https://{form}:{canary.port}/", f"http://{form}:{canary.port}/"):
                first = httpx.URL("https://first.example/", params={"to": target})
                with pytest.raises(DownloadError):
                    await upstream.download(str(first), private=False)
            assert canary.connections == 0

    run(follows())


class _Only:
    def __init__(self, transport: httpx.AsyncBaseTransport, closing: WaysOut) -> None:
        self._transport, self._closing = transport, closing

    def way(
        self, *, private: bool, fresh: bool, proxy: Proxy | None = None, source: HostSource = HostSource.OPERATOR
    ) -> httpx.AsyncBaseTransport:
        return self._transport

    async def aclose(self) -> None:
        await self._closing.aclose()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1"])
def test_a_name_server_that_changes_its_mind_gains_nothing(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was checked is what is connected: whatever comes next is checked as well."""
    monkeypatch.setattr(host_lookup, "FRESH_SECONDS", 0.0)
    answers = [["1.1.1.1"], [address], ["1.1.1.1", address]]

    async def lookup(_: str) -> Sequence[str]:
        return answers[0] if len(answers) == 1 else answers.pop(0)

    async def connects() -> None:
        connecting: list[object] = []
        loop = asyncio.get_running_loop()

        async def connect(sock: socket.socket, where: object) -> None:
            connecting.append(where)
            raise ConnectionRefusedError

        loop.sock_connect = connect  # type: ignore[method-assign]
        async with Upstream(Ways(lookup=lookup)) as upstream:
            put = Call(method="PUT", location="https://rebinding.example/x", presigned=True)
            for _ in range(4):
                outcome = await upstream.perform(put, seller("https://1.1.1.1", private=False), QUICK)
                assert kind(outcome) is FaultKind.NOT_SENT
        assert connecting == [("1.1.1.1", 443)]

    run(connects())


def test_what_was_allowed_is_connected_without_asking_again() -> None:
    """One lookup per connection, and the address goes from there into the socket."""
    lookups: list[str] = []

    async def lookup(host: str) -> Sequence[str]:
        lookups.append(host)
        return ["127.0.0.1"]

    async def connects() -> list[bytes]:
        async with server(serves) as running, Upstream(Ways(lookup=lookup)) as upstream:
            await upstream.perform(
                Call(method="GET", location="/"), seller(f"http://named.example:{running.port}"), QUICK
            )
            return running.requests

    assert b"Host: named.example:" in run(connects())[0].replace(b"host:", b"Host:")
    assert lookups == ["named.example"]


def test_the_guard_is_what_stops_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the same calls arrive, so these tests would notice."""
    monkeypatch.setattr(guard, "is_public", guard.anywhere)

    async def reaches() -> int:
        async with server(serves) as canary, Upstream() as upstream:
            order = Call(method="GET", location="/order")
            await upstream.perform(order, seller(f"http://127.0.0.1:{canary.port}", private=False), QUICK)
            return canary.connections

    assert run(reaches()) == 1


@pytest.mark.parametrize(
    ("base_url", "may"),
    [
        ("https://api.example", True),
        ("https://api.example:8443/v1", True),
        ("http://api.example:8080", True),
        ("http://api.example:80", True),
        ("http://api.example", False),
        ("http://api.example/v1:80", False),
    ],
)
def test_plain_http_has_to_be_asked_for_by_its_port(base_url: str, may: bool) -> None:
    lookups: list[str] = []

    async def lookup(host: str) -> Sequence[str]:
        lookups.append(host)
        return []

    async def ask() -> None:
        async with Upstream(Ways(lookup=lookup)) as upstream:
            outcome = await upstream.perform(Call(method="GET", location="/"), seller(base_url, private=False), QUICK)
            assert kind(outcome) is FaultKind.NOT_SENT

    run(ask())
    assert bool(lookups) is may
