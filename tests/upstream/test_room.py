"""Large bodies share a limited room only while they travel: not while a seller draws, and at no picture's expense."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.upstream.budget import ByteBudget
from gateway.upstream.client import Exchange, Upstream
from gateway.upstream.download import DownloadLimits
from providers.faults import VERDICTS, Blame, Bought, FaultKind, Then
from providers.spec import Answer, Call, FormPart
from tests.upstream.servers import GET, answer, asked, kind, run, says, seller, server, until

MIB = 1 << 20
# More than sockets take by themselves.
LARGE = bytes(16 * MIB)
PICTURE = bytes(2 * MIB)
PATIENT = Exchange(seconds=60.0)
ORDERS = {
    "JSON": Call(method="POST", location="/", body=LARGE),
    "form": Call(method="POST", location="/", body=(FormPart("image", LARGE, "a.png"), FormPart("n", b"1"))),
}


class Drawing:
    """A seller that reads its orders once it may, and answers them when their pictures are drawn."""

    def __init__(self) -> None:
        self.may_read, self.drawn = asyncio.Event(), asyncio.Event()
        self.read = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.may_read.wait()
        await asked(reader)
        self.read += 1
        await self.drawn.wait()
        writer.write(answer())
        await writer.drain()


def start(upstream: Upstream, url: str, call: Call, number: int) -> "list[asyncio.Task[object]]":
    return [asyncio.create_task(upstream.perform(call, seller(url), PATIENT)) for _ in range(number)]


async def answered(ordering: "Sequence[asyncio.Task[object]]") -> bool:
    return all(isinstance(outcome, Answer) for outcome in await asyncio.gather(*ordering))


@pytest.mark.parametrize("call", ORDERS.values(), ids=ORDERS)
def test_an_order_takes_no_room_while_its_seller_draws(call: Call) -> None:
    async def orders() -> None:
        drawing = Drawing()
        drawing.may_read.set()
        async with server(drawing) as running, Upstream(budget=ByteBudget(32 * MIB)) as upstream:
            ordering = start(upstream, running.url, call, 5)
            await until(lambda: drawing.read == 5, 30.0)
            await until(lambda: not upstream.budget.taken)
            assert not any(order.done() for order in ordering)
            drawing.drawn.set()
            assert await answered(ordering)
            assert (upstream.budget.taken, upstream.budget.waiting) == (0, 0)

    run(orders())


def test_orders_that_leave_slowly_hold_up_each_other_and_neither_questions_nor_pictures() -> None:
    async def orders() -> None:
        drawing = Drawing()
        async with (
            server(drawing) as slow,
            server(says(answer(PICTURE))) as quick,
            Upstream(budget=ByteBudget(48 * MIB)) as upstream,
        ):
            ordering = start(upstream, slow.url, ORDERS["JSON"], 6)
            await until(lambda: slow.connections == 2)
            assert (upstream.budget.taken, upstream.budget.waiting) == (32 * MIB, 4)
            assert isinstance(await upstream.perform(GET, seller(quick.url), PATIENT), Answer)
            assert await upstream.download(f"{quick.url}/picture", private=True) == PICTURE
            assert upstream.budget.waiting == 4
            drawing.may_read.set()
            drawing.drawn.set()
            assert await answered(ordering)

    run(orders())


def test_an_order_that_finds_no_room_here_is_sent_elsewhere_and_nobody_is_blamed() -> None:
    async def orders() -> None:
        budget = ByteBudget(32 * MIB)
        await budget.share_to_send().grow(24 * MIB)
        async with server(says(answer())) as running, Upstream(budget=budget) as upstream:
            exchange = Exchange(seconds=60.0, room_seconds=0.1)
            outcome = await upstream.perform(ORDERS["JSON"], seller(running.url), exchange)
            assert kind(outcome) is FaultKind.NO_ROOM
            assert (running.connections, budget.waiting, budget.taken) == (0, 0, 24 * MIB)

    run(orders())
    verdict = VERDICTS[FaultKind.NO_ROOM]
    assert (verdict.bought, verdict.then, verdict.blame) == (Bought.NO, Then.FAIL_OVER, Blame.NOBODY)


def test_the_wait_for_our_own_room_is_not_counted_against_a_seller() -> None:
    seconds = 2.0

    async def waits() -> None:
        async with server(says(answer(PICTURE))) as running, Upstream(budget=ByteBudget(8 * MIB)) as upstream:
            budgets = upstream.budget, upstream.link_budget
            taken = [budget.share() for budget in budgets]
            for share in taken:
                await share.grow(8 * MIB)
            limits = DownloadLimits(seconds=seconds)
            picture = asyncio.create_task(upstream.download(f"{running.url}/picture", private=True, limits=limits))
            question = asyncio.create_task(upstream.perform(GET, seller(running.url), Exchange(seconds=seconds)))
            await until(lambda: all(budget.waiting == 1 for budget in budgets))
            await asyncio.sleep(1.5 * seconds)
            assert not picture.done()
            assert not question.done()
            for share in taken:
                share.give_back()
            assert await picture == PICTURE
            assert isinstance(await question, Answer)

    run(waits())


def test_who_is_slow_after_there_was_room_is_late_all_the_same() -> None:
    async def drips() -> None:
        budget = ByteBudget(8 * MIB)
        first = budget.share()
        await first.grow(8 * MIB)
        head = answer(bytes(MIB))
        async with server(says(head[: MIB // 2], b"", every=3600.0)) as running, Upstream(budget=budget) as upstream:
            question = asyncio.create_task(upstream.perform(GET, seller(running.url), Exchange(seconds=0.5)))
            await until(lambda: budget.waiting == 1)
            first.give_back()
            assert kind(await question) is FaultKind.LOST
            assert (budget.taken, budget.waiting) == (0, 0)

    run(drips())


@pytest.mark.parametrize("announced", [True, False])
def test_an_answer_may_be_as_large_as_the_exchange_says_and_takes_little_more_room_than_it_needs(
    announced: bool,
) -> None:
    size = 60 * MIB

    async def asks() -> None:
        last, body = asyncio.Event(), bytes(size)

        async def in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asked(reader)
            length = f"Content-Length: {size}" if announced else "Connection: close"
            writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode() + body[1:])
            await writer.drain()
            await last.wait()
            writer.write(body[:1])
            await writer.drain()

        async with server(in_pieces) as running, Upstream() as upstream:
            exchange = Exchange(seconds=60.0, most_bytes=96 * MIB)
            asking = asyncio.create_task(upstream.perform(GET, seller(running.url), exchange))
            await until(lambda: upstream.budget.taken >= size - MIB, 30.0)
            assert upstream.budget.taken <= size + 16 * MIB
            last.set()
            outcome = await asking
            assert isinstance(outcome, Answer)
            assert len(outcome.body) == size
            assert upstream.budget.taken == 0
            assert kind(await upstream.perform(GET, seller(running.url), PATIENT)) is FaultKind.UNREADABLE

    run(asks())
