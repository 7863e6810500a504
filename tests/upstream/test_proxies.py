"""Through an account's proxy: what arrives, in which form, and over which connection."""

from pathlib import Path

import pytest

from gateway.upstream import transport
from gateway.upstream.client import Exchange
from providers.spec import Answer, Call
from tests.upstream.proxies import BASIC, Town, forwards, proxy_at
from tests.upstream.servers import (
    KEY,
    ORDER,
    QUICK,
    answer,
    run,
    says,
    seller,
    server,
    serves,
    until,
)


def test_an_order_and_its_answer_pass(town: Town) -> None:
    async def asks() -> None:
        async with town.street(says(answer(b"y" * 300_000))) as street:
            outcome = await street.ask()
            assert isinstance(outcome, Answer), outcome
            assert (outcome.status, len(outcome.body)) == (200, 300_000)
            assert b"authorization: bearer " + KEY.encode() in street.seller.requests[0].lower()
            assert street.proxy.connections == 1

    run(asks())


def test_a_tunnel_is_asked_for_by_name_and_sees_nothing_of_the_order(tunnels: Town) -> None:
    async def asks() -> bytes:
        async with tunnels.street() as street:
            assert isinstance(await street.ask(), Answer)
            assert b"proxy-" not in street.seller.requests[0].lower()
            assert street.seller.requests[0].startswith(b"POST /things HTTP/1.1\r\n")
            return street.proxy.requests[0].replace(str(street.seller.port).encode(), b"PORT")

    head = run(asks())
    assert head.startswith(b"CONNECT seller.example:PORT HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {BASIC}".encode() in head
    assert KEY.encode() not in head
    assert b"aiohttp" not in head.lower()
    assert b"connection: close" not in head.lower()


def test_without_tls_the_whole_address_is_asked_for(certificate: Path) -> None:
    """Byte for byte the address that was signed."""
    path = "/bucket/a%2Fb%20c/~d?X-Sig=a%2Fb%2B%3D&empty=&x=%7e"

    async def asks() -> bytes:
        async with Town(certificate, "http").street() as street:
            put = Call(method="PUT", location=street.origin + path, body=b"picture", presigned=True)
            assert isinstance(await street.ask(put), Answer)
            assert b"proxy-" not in street.seller.requests[0].lower()
            return street.proxy.requests[0].replace(str(street.seller.port).encode(), b"PORT")

    head = run(asks())
    assert head.startswith(f"PUT http://seller.example:PORT{path} HTTP/1.1\r\n".encode())
    assert f"Proxy-Authorization: Basic {BASIC}".encode().lower() in head.lower()
    assert b"host: seller.example:port" in head.lower()


def test_a_proxy_without_credentials_is_shown_none(town: Town) -> None:
    async def asks() -> list[bytes]:
        async with town.street() as street:
            assert isinstance(await street.upstream.perform(ORDER, street.account(), QUICK), Answer)
            return street.proxy.requests

    assert b"proxy-authorization" not in b"".join(run(asks())).lower()


def test_pictures_and_uploads_pass_the_proxy(town: Town) -> None:
    async def asks() -> None:
        async with town.street() as street:
            url = f"{street.origin}/picture?X-Sig=1"
            proxy = proxy_at(street.proxy.url, known=True)
            assert await street.upstream.download(url, True, proxy=proxy) == b"{}"
            put = Call(method="PUT", location=url, body=b"picture", presigned=True)
            assert isinstance(await street.ask(put), Answer)
            assert len(street.seller.requests) == 2
            assert not [head for head in street.seller.requests if b"\r\nauthorization" in head.lower()]
            assert street.proxy.connections == street.seller.connections

    run(asks())


def test_accounts_without_a_proxy_stay_as_they_are(certificate: Path) -> None:
    async def asks() -> None:
        async with Town(certificate, "http").street() as street:
            direct = seller(street.seller.url)
            assert isinstance(await street.upstream.perform(ORDER, direct, QUICK), Answer)
            assert await street.upstream.download(street.seller.url, True) == b"{}"
            assert (street.proxy.connections, street.seller.connections) == (0, 2)

    run(asks())


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"])
def test_the_environment_changes_nothing(name: str, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asks() -> None:
        async with town.street() as street, server(serves) as other:
            monkeypatch.setenv(name, other.url)
            monkeypatch.setenv("no_proxy", "*")
            assert isinstance(await street.ask(), Answer)
            assert (street.proxy.connections, other.connections) == (1, 0)

    run(asks())


# --- which connection


@pytest.mark.parametrize(("fresh", "connections"), [(True, 2), (False, 1)], ids=["fresh", "kept"])
def test_fresh_orders_have_a_connection_of_their_own_and_others_are_kept(
    fresh: bool, connections: int, town: Town
) -> None:
    async def asks() -> tuple[int, int]:
        async with town.street() as street:
            for _ in range(2):
                assert isinstance(await street.ask(exchange=Exchange(seconds=5.0, fresh=fresh)), Answer)
            return street.proxy.connections, street.seller.connections

    assert run(asks()) == (connections, connections)


def test_another_proxy_or_other_credentials_mean_another_connection_at_once(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those that nobody uses any more close by themselves."""
    monkeypatch.setattr(transport, "_IDLE_SECONDS", 0.2)

    async def asks() -> None:
        async with town.street() as street, server(forwards()) as other:
            assert isinstance(await street.ask(), Answer)
            assert isinstance(await street.upstream.perform(ORDER, street.account(), QUICK), Answer)
            assert street.proxy.connections == 2
            changed = street.account(proxy=proxy_at(other.url))
            assert isinstance(await street.upstream.perform(ORDER, changed, QUICK), Answer)
            assert isinstance(
                await street.upstream.perform(ORDER, seller(street.origin, proxy=changed.account.proxy), QUICK), Answer
            )
            assert (street.proxy.connections, other.connections) == (2, 1)
            await until(lambda: street.proxy.open == 0)

    run(asks())
