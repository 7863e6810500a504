"""Each way in which an exchange can fail, over real sockets: did anything leave, or can nobody tell?"""

import asyncio
import socket
import time
from collections.abc import Sequence

import pytest

from gateway.upstream.client import Exchange, Upstream
from gateway.upstream.transport import Ways
from providers.faults import FaultKind
from providers.progress import Unanswered
from providers.spec import Answer, Call
from tests.upstream.servers import (
    GET,
    ORDER,
    QUICK,
    answer,
    hang,
    hangs,
    kind,
    performed,
    reset,
    run,
    says,
    seller,
    server,
    serves,
    then,
)

HALF_A_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
HALF_A_HEAD = b"HTTP/1.1 200 OK\r\nContent-Le"
HALF_A_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nhalf"
NO_LAST_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
NOTHING = b""

CUT = {
    "closes without a word": says(NOTHING),
    "resets without a word": then(says(NOTHING), reset),
    "closes within the head": says(HALF_A_HEAD),
    "resets within the head": then(says(HALF_A_HEAD), reset),
    "closes within the body": says(HALF_A_BODY),
    "resets within the body": then(says(HALF_A_BODY, every=0.05), reset),
    "closes within a chunk": says(HALF_A_CHUNK),
    "resets within a chunk": then(says(HALF_A_CHUNK, every=0.05), reset),
    "closes without the last chunk": says(NO_LAST_CHUNK),
    "says garbage": says(b"\x16\x03\x01 this is no HTTP at all\r\n\r\n"),
    "says SSH": says(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    "says a status that is none": says(b"HTTP/1.1 twohundred OK\r\n\r\n"),
    "says two lengths": says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}!"),
    "says a negative length": says(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}"),
    "says a chunk that is none": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
    "says headers without end": says(b"HTTP/1.1 200 OK\r\n" + b"x-filler: 0123456789\r\n" * 100_000),
    "says a header of a megabyte": says(b"HTTP/1.1 200 OK\r\nx: " + b"y" * (1 << 20) + b"\r\n\r\n"),
}


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "kept"])
@pytest.mark.parametrize("name", CUT)
def test_what_breaks_after_the_order_left_is_lost(name: str, fresh: bool) -> None:
    exchange = Exchange(seconds=5.0, fresh=fresh)
    assert kind(run(performed(CUT[name], exchange=exchange))) is FaultKind.LOST


@pytest.mark.parametrize("name", CUT)
def test_a_question_fails_in_the_same_words(name: str) -> None:
    assert kind(run(performed(CUT[name], GET))) is FaultKind.LOST


SLOW = {
    "hangs before it reads": hangs,
    "hangs before the head": then(says(NOTHING), hang),
    "hangs within the head": then(says(HALF_A_HEAD), hang),
    "hangs after the head": then(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), hang),
    "hangs within the body": then(says(HALF_A_BODY), hang),
    "a byte each 0.2 s": says(*(bytes([byte]) for byte in answer(b"0" * 400)), every=0.2),
    "a byte of body each 0.2 s": says(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n", *[b"0"] * 400, every=0.2),
    "interim answers without end": says(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 400, every=0.05),
}


@pytest.mark.parametrize("name", SLOW)
def test_the_deadline_is_for_the_whole_exchange(name: str) -> None:
    started = time.monotonic()
    assert kind(run(performed(SLOW[name], exchange=Exchange(seconds=0.7)))) is FaultKind.LOST
    assert 0.6 < time.monotonic() - started < 1.2


def test_a_large_order_that_nobody_reads_ends_on_time_as_well() -> None:
    large = Call(method="POST", location="/", body=b"x" * (30 << 20))
    assert kind(run(performed(hangs, large, Exchange(seconds=0.5)))) is FaultKind.LOST


def test_an_order_that_is_cut_off_half_way_is_lost() -> None:
    async def reads_a_little(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        reset(writer)

    large = Call(method="POST", location="/", body=b"x" * (30 << 20))
    assert kind(run(performed(reads_a_little, large))) is FaultKind.LOST


def test_without_a_listener_nothing_was_sent() -> None:
    async def ask() -> Answer | Unanswered:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            async with Upstream() as upstream:
                return await upstream.perform(ORDER, seller(f"http://127.0.0.1:{reserved.getsockname()[1]}"), QUICK)

    outcome = run(ask())
    assert kind(outcome) is FaultKind.NOT_SENT
    assert isinstance(outcome, Unanswered)
    assert outcome.fault.message == "ConnectionRefusedError"


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), socket.gaierror(-3, "try again"), OSError("odd")])
def test_a_name_that_is_not_found_means_not_sent(error: OSError) -> None:
    async def finds_nothing(_: str) -> Sequence[str]:
        raise error

    async def ask() -> Answer | Unanswered:
        async with Upstream(Ways(lookup=finds_nothing)) as upstream:
            return await upstream.perform(ORDER, seller("https://seller.invalid"), QUICK)

    assert kind(run(ask())) is FaultKind.NOT_SENT


@pytest.mark.parametrize("host", ["seller.invalid", "a" * 70 + ".invalid", "a..b.invalid", "xn--.invalid"])
def test_the_system_knows_no_such_name(host: str) -> None:
    async def ask() -> Answer | Unanswered:
        async with Upstream() as upstream:
            return await upstream.perform(ORDER, seller(f"https://{host}"), QUICK)

    assert kind(run(ask())) is FaultKind.NOT_SENT


def test_a_lookup_that_hangs_ends_with_the_time_for_connecting() -> None:
    async def never(_: str) -> Sequence[str]:
        await asyncio.sleep(3600)
        return ()

    async def ask(exchange: Exchange) -> Answer | Unanswered:
        async with Upstream(Ways(lookup=never)) as upstream:
            return await upstream.perform(ORDER, seller("https://seller.invalid"), exchange)

    for exchange in (Exchange(seconds=5.0, connect_seconds=0.3), Exchange(seconds=0.3)):
        started = time.monotonic()
        assert kind(run(ask(exchange))) is FaultKind.NOT_SENT
        assert time.monotonic() - started < 1.0


def test_a_listener_that_never_accepts_means_not_sent() -> None:
    async def ask() -> Answer | Unanswered:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            crowd = [socket.socket() for _ in range(4)]
            for one in crowd:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            async with Upstream() as upstream:
                try:
                    url = f"http://127.0.0.1:{full.getsockname()[1]}"
                    return await upstream.perform(ORDER, seller(url), Exchange(seconds=5.0, connect_seconds=0.3))
                finally:
                    for one in crowd:
                        one.close()

    assert kind(run(ask())) is FaultKind.NOT_SENT


@pytest.mark.parametrize("exchange", [Exchange(seconds=2.0, connect_seconds=0.2), Exchange(seconds=0.2)])
def test_without_a_free_connection_nothing_is_sent_and_no_seller_is_blamed(exchange: Exchange) -> None:
    async def ask() -> tuple[Answer | Unanswered, int]:
        async with server(hangs) as running, Upstream(Ways(most_connections=1)) as upstream:
            first = asyncio.create_task(upstream.perform(ORDER, seller(running.url), QUICK))
            await asyncio.sleep(0.1)
            second = await upstream.perform(ORDER, seller(running.url), exchange)
            first.cancel()
            await asyncio.wait([first])
            return second, running.connections

    outcome, connections = run(ask())
    assert kind(outcome) is FaultKind.NO_ROOM
    assert connections == 1


def test_a_closed_client_sends_nothing() -> None:
    async def ask() -> tuple[Answer | Unanswered, int]:
        async with server(serves) as running:
            upstream = Upstream()
            await upstream.aclose()
            return await upstream.perform(ORDER, seller(running.url), QUICK), running.connections

    outcome, connections = run(ask())
    assert kind(outcome) is FaultKind.NOT_SENT
    assert connections == 0
