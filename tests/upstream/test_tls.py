"""TLS fails closed: without a certificate that is right, nothing leaves."""

import asyncio
import gc
import random
import ssl
from pathlib import Path

import pytest

from gateway.upstream.client import Exchange, Upstream
from gateway.upstream.transport import Ways
from providers.faults import FaultKind
from providers.progress import Unanswered
from providers.spec import Answer
from tests.upstream.certified import NAME, at_loopback, speaking, trusting
from tests.upstream.servers import (
    LOOPS,
    ORDER,
    QUICK,
    answer,
    asked,
    hangs,
    kind,
    open_files,
    run,
    seller,
    server,
    serves,
    until,
)


async def _ask(certificate: Path, name: str, tls: ssl.SSLContext | None) -> tuple[Answer | Unanswered, list[bytes]]:
    async with server(serves, speaking(certificate)) as running, Upstream(Ways(at_loopback, tls)) as upstream:
        outcome = await upstream.perform(ORDER, seller(f"https://{name}:{running.port}"), QUICK)
        return outcome, running.requests


def test_a_certificate_that_nobody_signed_is_refused(certificate: Path) -> None:
    outcome, requests = run(_ask(certificate, NAME, None))
    assert kind(outcome) is FaultKind.NOT_SENT
    assert isinstance(outcome, Unanswered)
    assert outcome.fault.message == "SSLCertVerificationError"
    assert requests == []


def test_a_certificate_for_another_name_is_refused(certificate: Path) -> None:
    outcome, requests = run(_ask(certificate, "other.example", trusting(certificate)))
    assert kind(outcome) is FaultKind.NOT_SENT
    assert requests == []


def test_the_name_is_what_the_certificate_is_checked_for(certificate: Path) -> None:
    """Although the address was looked up, checked and connected to by number."""
    outcome, requests = run(_ask(certificate, NAME, trusting(certificate)))
    assert isinstance(outcome, Answer)
    assert len(requests) == 1


def test_a_port_that_speaks_no_tls_means_not_sent() -> None:
    async def says_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer(b"", "400 Plain HTTP here"))
        await writer.drain()

    async def ask() -> Answer | Unanswered:
        async with server(says_plainly) as running, Upstream() as upstream:
            return await upstream.perform(ORDER, seller(f"https://127.0.0.1:{running.port}"), QUICK)

    assert kind(run(ask())) is FaultKind.NOT_SENT


def test_a_port_that_never_shakes_hands_means_not_sent() -> None:
    async def ask(exchange: Exchange) -> Answer | Unanswered:
        async with server(hangs) as running, Upstream() as upstream:
            return await upstream.perform(ORDER, seller(f"https://127.0.0.1:{running.port}"), exchange)

    assert kind(run(ask(Exchange(seconds=5.0, connect_seconds=0.3)))) is FaultKind.NOT_SENT
    assert kind(run(ask(Exchange(seconds=0.3)))) is FaultKind.NOT_SENT


def test_a_port_that_hangs_up_on_the_handshake_means_not_sent() -> None:
    async def hangs_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(10)

    async def ask() -> Answer | Unanswered:
        async with server(hangs_up) as running, Upstream() as upstream:
            return await upstream.perform(ORDER, seller(f"https://127.0.0.1:{running.port}"), QUICK)

    assert kind(run(ask())) is FaultKind.NOT_SENT


def test_what_breaks_after_the_handshake_is_lost(certificate: Path) -> None:
    async def takes_and_leaves(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await asked(reader)

    async def ask() -> Answer | Unanswered:
        tls = trusting(certificate)
        async with server(takes_and_leaves, speaking(certificate)) as running:
            async with Upstream(Ways(at_loopback, tls)) as upstream:
                return await upstream.perform(ORDER, seller(f"https://{NAME}:{running.port}"), QUICK)

    assert kind(run(ask())) is FaultKind.LOST


@pytest.mark.parametrize("loop", LOOPS)
def test_leaving_during_the_handshake_leaves_nothing_behind(certificate: Path, loop: str) -> None:
    async def leaves() -> None:
        chance = random.Random(3)  # noqa: S311
        async with server(serves, speaking(certificate)) as running:
            before = open_files()
            async with Upstream(Ways(at_loopback, trusting(certificate), most_connections=20)) as upstream:
                asked_for = seller(f"https://{NAME}:{running.port}")

                async def one(seconds: float) -> Answer | Unanswered:
                    return await upstream.perform(
                        ORDER, asked_for, Exchange(seconds=seconds, fresh=chance.random() < 0.5)
                    )

                for _ in range(10):
                    await asyncio.gather(*(one(chance.random() * 0.05) for _ in range(20)))
                outcomes = await asyncio.gather(*(one(5.0) for _ in range(20)))
                assert all(isinstance(outcome, Answer) for outcome in outcomes)
            gc.collect()
            await until(lambda: running.open == 0)
            await until(lambda: open_files() == before)

    LOOPS[loop](leaves())
