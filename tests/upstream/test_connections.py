"""Which connection an order travels on, and who must never see our key."""

import asyncio

import pytest

from gateway.upstream.client import Exchange, Upstream
from providers.faults import FaultKind
from providers.progress import Unanswered
from providers.spec import Answer, Call
from tests.upstream.servers import (
    GET,
    KEY,
    ORDER,
    QUICK,
    Behaviour,
    answer,
    asked,
    kind,
    run,
    says,
    seller,
    server,
    serves,
)


async def answers_once_then_drops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says that the connection may be used again, and drops what comes over it next."""
    await asked(reader)
    writer.write(answer())
    await writer.drain()
    await asked(reader)


async def closes_while_idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asked(reader)
    writer.write(answer())
    await writer.drain()


async def _twice(behave: Behaviour, call: Call, *, fresh: bool, pause: float) -> tuple[Answer | Unanswered, int]:
    async with server(behave) as running, Upstream() as upstream:
        asking = seller(running.url)
        first = await upstream.perform(call, asking, Exchange(seconds=5.0, fresh=fresh))
        assert isinstance(first, Answer)
        await asyncio.sleep(pause)
        second = await upstream.perform(call, asking, Exchange(seconds=5.0, fresh=fresh))
        return second, running.connections


def test_a_kept_connection_is_used_again() -> None:
    second, connections = run(_twice(serves, ORDER, fresh=False, pause=0.0))
    assert isinstance(second, Answer)
    assert connections == 1


def test_a_fresh_order_has_a_connection_of_its_own() -> None:
    second, connections = run(_twice(serves, ORDER, fresh=True, pause=0.0))
    assert isinstance(second, Answer)
    assert connections == 2


def test_a_fresh_order_never_meets_a_dead_connection() -> None:
    for behave in (answers_once_then_drops, closes_while_idle):
        second, connections = run(_twice(behave, ORDER, fresh=True, pause=0.0))
        assert isinstance(second, Answer)
        assert connections == 2


def test_an_order_over_a_kept_connection_that_dies_under_it_is_lost_and_not_repeated() -> None:
    second, connections = run(_twice(answers_once_then_drops, ORDER, fresh=False, pause=0.0))
    assert kind(second) is FaultKind.LOST
    assert connections == 1


def test_a_question_over_a_kept_connection_that_dies_under_it_is_asked_again() -> None:
    second, connections = run(_twice(answers_once_then_drops, GET, fresh=False, pause=0.0))
    assert isinstance(second, Answer)
    assert connections == 2


@pytest.mark.parametrize("call", [GET, ORDER], ids=["question", "order"])
def test_a_connection_that_was_closed_while_idle_is_not_used(call: Call) -> None:
    second, connections = run(_twice(closes_while_idle, call, fresh=False, pause=0.1))
    assert isinstance(second, Answer)
    assert connections == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", [GET, ORDER], ids=["question", "order"])
def test_no_redirect_is_followed(status: int, call: Call) -> None:
    async def ask() -> tuple[Answer | Unanswered, int]:
        async with server(serves) as canary, Upstream() as upstream:
            leads = says(answer(b"", f"{status} Moved", [f"Location: {canary.url}/stolen"]))
            async with server(leads) as running:
                outcome = await upstream.perform(call, seller(running.url), QUICK)
            return outcome, canary.connections

    outcome, connections = run(ask())
    assert isinstance(outcome, Answer)
    assert outcome.status == status
    assert connections == 0


def test_an_upload_to_an_address_we_were_given_carries_no_key_of_ours() -> None:
    """Byte for byte the address that was signed, also where it could be written otherwise."""
    path = "/bucket/a%2Fb%20c/~d?X-Sig=a%2Fb%2B%3D&empty=&x=%7e"

    async def put(**options: object) -> bytes:
        async with server(serves) as store, Upstream() as upstream:
            call = Call(
                method="PUT",
                location=store.url + path,
                headers={"Content-Type": "image/png", "Content-Length": "7"},
                body=b"picture",
                presigned=True,
            )
            # The store may even be the account's own origin.
            outcome = await upstream.perform(call, seller(store.url), QUICK)
            assert isinstance(outcome, Answer)
            return store.requests[0]

    head = run(put())
    assert head.split(b" ")[1] == path.encode()
    assert KEY.encode() not in head
    assert b"authorization" not in head.lower()
    assert b"content-type: image/png" in head.lower()


def test_cookies_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> list[bytes]:
        async with server(_sets_cookies) as running, Upstream() as upstream:
            await upstream.perform(GET, seller(running.url), QUICK)
            await upstream.perform(GET, seller(running.url), QUICK)
            return running.requests

    heads = run(ask())
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


async def _sets_cookies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await asked(reader)
        writer.write(answer(headers=["Set-Cookie: session=1; Path=/"]))


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_no_proxy_is_taken_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> tuple[int, int]:
        async with server(serves) as proxy, server(serves) as running:
            monkeypatch.setenv(name, proxy.url)
            async with Upstream() as upstream:
                await upstream.perform(GET, seller(running.url), QUICK)
            return proxy.connections, running.connections

    assert run(ask()) == (0, 1)
