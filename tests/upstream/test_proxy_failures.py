"""Each way in which a proxy can fail: did anything reach the seller, or can nobody tell? And who gets to see what."""

import asyncio
import gc
import logging
import random
import socket
from pathlib import Path

import pytest

from gateway.upstream.client import Exchange
from gateway.upstream.download import DownloadError, DownloadLimits
from providers.faults import FaultKind
from providers.progress import Unanswered
from providers.spec import Answer, Call
from tests.upstream.certified import NAME
from tests.upstream.proxies import BASIC, Town, forwards, proxy_at, refuses
from tests.upstream.servers import (
    GET,
    KEY,
    LOOPS,
    ORDER,
    QUICK,
    Behaviour,
    answer,
    asked,
    hang,
    hangs,
    kind,
    open_files,
    reset,
    run,
    says,
    seller,
    then,
    until,
)


async def _hangs_up_on_the_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asked(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await reader.read(10)


BEFORE = {
    "wants other credentials": (refuses("407 Proxy Authentication Required"), "ProxyAnswered407"),
    "forbids it": (refuses("403 Forbidden"), "ProxyAnswered403"),
    "finds no seller": (refuses("502 Bad Gateway"), "ProxyAnswered502"),
    "is busy": (refuses("503 Service Unavailable"), "ProxyAnswered503"),
    "redirects": (says(answer(b"", "302 Found", ["Location: http://127.0.0.1:1/"])), "ProxyAnswered302"),
    "hangs up": (says(b""), "ServerDisconnectedError"),
    "resets": (then(says(b""), reset), None),
    "says garbage": (says(b"SSH-2.0-OpenSSH_9.2p1\r\n"), None),
    "says half a head": (says(b"HTTP/1.1 200 Connection est"), None),
    "says headers without end": (says(b"HTTP/1.1 200 OK\r\n" + b"x-filler: 0123456789\r\n" * 100_000), None),
    "hangs up on the handshake": (_hangs_up_on_the_handshake, None),
}


@pytest.mark.parametrize("call", [GET, ORDER], ids=["question", "order"])
@pytest.mark.parametrize("name", BEFORE)
def test_without_a_tunnel_nothing_was_sent(name: str, call: Call, tunnels: Town) -> None:
    behave, message = BEFORE[name]

    async def asks() -> Answer | Unanswered:
        async with tunnels.street(proxy=behave) as street:
            before = open_files()
            outcome = await street.ask(call, Exchange(seconds=5.0, fresh=True))
            assert street.seller.requests == []
            await until(lambda: open_files() == before)
            return outcome

    outcome = run(asks())
    assert kind(outcome) is FaultKind.NOT_SENT
    assert isinstance(outcome, Unanswered)
    assert message in (None, outcome.fault.message)


SLOW = {
    "hangs": hangs,
    "hangs after it was asked": then(says(b""), hang),
    "hangs within its answer": then(says(b"HTTP/1.1 200 Conn"), hang),
    "hangs within the handshake": then(says(b"HTTP/1.1 200 OK\r\n\r\n"), hang),
    "has interim answers without end": says(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 400, every=0.05),
    "says a byte each 0.2 s": says(*(bytes([byte]) for byte in b"HTTP/1.1 200 OK and more\r\n\r\n"), every=0.2),
}


@pytest.mark.parametrize("exchange", [Exchange(5.0, connect_seconds=0.3), Exchange(0.3)], ids=["connect", "whole"])
@pytest.mark.parametrize("name", SLOW)
def test_waiting_for_a_tunnel_ends_in_time_and_nothing_was_sent(name: str, exchange: Exchange, tunnels: Town) -> None:
    async def asks() -> Answer | Unanswered:
        async with tunnels.street(proxy=SLOW[name]) as street:
            return await street.ask(exchange=exchange)

    assert kind(run(asks())) is FaultKind.NOT_SENT


def test_without_a_proxy_nothing_was_sent(town: Town) -> None:
    """And never goes without it."""

    async def asks() -> tuple[Answer | Unanswered, int]:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            async with town.street() as street:
                gone = street.account(proxy=proxy_at(f"http://127.0.0.1:{reserved.getsockname()[1]}"))
                return await street.upstream.perform(ORDER, gone, QUICK), street.seller.connections

    outcome, connections = run(asks())
    assert kind(outcome) is FaultKind.NOT_SENT
    assert isinstance(outcome, Unanswered)
    assert outcome.fault.message == "ProxyConnectionRefusedError"
    assert connections == 0


def test_a_certificate_for_another_name_is_refused_through_a_tunnel_as_well(tunnels: Town) -> None:
    async def asks() -> None:
        async with tunnels.street() as street:
            other = seller(street.origin.replace(NAME, "other.example"), proxy=proxy_at(street.proxy.url))
            outcome = await street.upstream.perform(ORDER, other, QUICK)
            assert kind(outcome) is FaultKind.NOT_SENT
            assert street.seller.requests == []

    run(asks())


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "kept"])
def test_a_proxy_that_dies_with_the_order_leaves_it_lost_and_not_repeated(fresh: bool, town: Town) -> None:
    async def asks() -> None:
        taken = asyncio.Event()

        async def takes(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await asked(reader)
            taken.set()
            await asyncio.sleep(3600)

        async with town.street(takes, forwards(dies=taken)) as street:
            outcome = await street.ask(exchange=Exchange(seconds=5.0, fresh=fresh))
            assert kind(outcome) is FaultKind.LOST
            assert len(street.seller.requests) == 1

    run(asks())


def test_the_deadline_and_the_size_of_answers_hold_behind_a_proxy(town: Town) -> None:
    async def asks() -> None:
        async with town.street(then(says(b"HTTP/1.1 200 OK\r\nContent-Le"), hang)) as street:
            assert kind(await street.ask(exchange=Exchange(seconds=0.5))) is FaultKind.LOST
        async with town.street(says(b"HTTP/1.1 200 OK\r\n\r\n", *[b"0" * 65536] * 200)) as street:
            exchange = Exchange(seconds=5.0, most_bytes=100_000)
            assert kind(await street.ask(exchange=exchange)) is FaultKind.UNREADABLE
            proxy = proxy_at(street.proxy.url)
            with pytest.raises(DownloadError) as raised:
                await street.upstream.download(street.origin, True, DownloadLimits(most_bytes=1000), proxy)
            assert raised.value.gone

    run(asks())


@pytest.mark.parametrize("status", [403, 407, 502])
def test_without_tls_a_proxys_answer_cannot_be_told_from_a_sellers(status: int, certificate: Path) -> None:
    async def asks() -> Answer | Unanswered:
        async with Town(certificate, "http").street(proxy=refuses(f"{status} No")) as street:
            return await street.ask()

    outcome = run(asks())
    assert isinstance(outcome, Answer)
    assert outcome.status == status


# --- leaving nothing behind


def _dawdling(chance: random.Random) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(chance.random() * 0.01)
        await forwards()(reader, writer)

    return behave


@pytest.mark.parametrize("loop", LOOPS)
def test_whoever_gives_up_on_the_way_leaves_nothing_behind(loop: str, town: Town) -> None:
    async def leaves() -> None:
        chance = random.Random(5)  # noqa: S311
        async with town.street(proxy=_dawdling(chance)) as street:
            before, tasks = open_files(), len(asyncio.all_tasks())

            async def one(seconds: float) -> None:
                asking = asyncio.create_task(street.ask(exchange=Exchange(5.0, fresh=chance.random() < 0.5)))
                await asyncio.wait([asking], timeout=seconds)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

            for _ in range(10):
                await asyncio.gather(*(one(chance.random() * 0.05) for _ in range(20)))
            outcomes = await asyncio.gather(*(street.ask() for _ in range(20)))
            assert all(isinstance(outcome, Answer) for outcome in outcomes), outcomes
            assert street.upstream.budget.taken == 0
            await street.upstream.aclose()
            gc.collect()
            await until(lambda: street.proxy.open == street.seller.open == 0)
            await until(lambda: len(asyncio.all_tasks()) <= tasks)
            await until(lambda: open_files() <= before)

    LOOPS[loop](leaves())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_large_order_that_nobody_reads_can_be_dropped_behind_a_proxy(loop: str, town: Town) -> None:
    async def drops() -> None:
        async with town.street(hangs) as street:
            before = open_files()
            large = Call(method="POST", location="/", body=b"x" * (30 << 20))
            asking = asyncio.create_task(street.ask(large, Exchange(seconds=30.0)))
            await asyncio.sleep(0.3)
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()
            # The proxy has not noticed, and keeps its two connections; the seller keeps his.
            await until(lambda: open_files() == before + 3)

    LOOPS[loop](drops())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_closes_while_it_asks_for_a_tunnel_leaves_nothing_behind(loop: str, tunnels: Town) -> None:
    async def closes() -> None:
        async with tunnels.street(proxy=hangs) as street:
            before = open_files()
            asking = asyncio.create_task(street.ask(exchange=Exchange(seconds=30.0)))
            await until(lambda: street.proxy.connections == 1)
            await street.upstream.aclose()
            asking.cancel()
            await asyncio.wait([asking])
            gc.collect()
            # The proxy's own side stays open, since it does not read.
            await until(lambda: open_files() <= before + 1)

    LOOPS[loop](closes())


# --- what nobody gets to see


@pytest.mark.parametrize("name", BEFORE)
def test_nobody_repeats_credentials(name: str, town: Town, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    limits = DownloadLimits(seconds=1.0)

    async def asks() -> str:
        async with town.street(proxy=BEFORE[name][0]) as street:
            said = repr(await street.ask(exchange=Exchange(seconds=1.0))) + repr(street.account(known=True))
            with pytest.raises(DownloadError) as raised:
                await street.upstream.download(street.origin, True, limits, proxy_at(street.proxy.url, known=True))
            assert (raised.value.__cause__, raised.value.__context__) == (None, None)
            return said + repr(raised.value)

    said = run(asks()) + caplog.text
    assert "canary" not in said.replace(KEY, "")
    assert BASIC not in said
