"""Large bodies share a limited memory only while they travel, not while a seller works."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.memory_budget import MemoryBudget
from gateway.upstream.download import DownloadLimits
from gateway.upstream.seller_client import CallOptions, SellerClient
from providers.adapter import Answer, Call, FormPart
from providers.faults import VERDICTS, ChargeStatus, FaultKind, HealthScope, PartConsequence
from tests.harness.wait import wait_until_async
from tests.upstream import fake_servers

MIB = 1 << 20
# More than the sockets' buffers hold.
LARGE_BODY = bytes(16 * MIB)
IMAGE = bytes(2 * MIB)
PATIENT_OPTIONS = CallOptions(timeout_seconds=60.0)
LARGE_ORDERS = {
    "JSON": Call(method="POST", location="/", body=LARGE_BODY),
    "form": Call(method="POST", location="/", body=(FormPart("image", LARGE_BODY, "a.png"), FormPart("n", b"1"))),
}


class SlowSeller:
    """A seller that reads its orders once `may_read` is set, and answers later."""

    def __init__(self) -> None:
        self.may_read, self.may_answer = asyncio.Event(), asyncio.Event()
        self.read_count = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.may_read.wait()
        await fake_servers.read_request(reader)
        self.read_count += 1
        await self.may_answer.wait()
        writer.write(fake_servers.build_response())
        await writer.drain()


def start_orders(client: SellerClient, url: str, call: Call, count: int) -> "list[asyncio.Task[object]]":
    return [
        asyncio.create_task(client.send(call, fake_servers.make_seller(url), PATIENT_OPTIONS)) for _ in range(count)
    ]


async def are_all_answered(tasks: "Sequence[asyncio.Task[object]]") -> bool:
    return all(isinstance(outcome, Answer) for outcome in await asyncio.gather(*tasks))


@pytest.mark.parametrize("call", LARGE_ORDERS.values(), ids=LARGE_ORDERS)
def test_sent_order_holds_no_memory_while_the_seller_works(call: Call) -> None:
    async def scenario() -> None:
        slow_seller = SlowSeller()
        slow_seller.may_read.set()
        async with (
            fake_servers.run_server(slow_seller) as server,
            SellerClient(memory_budget=MemoryBudget(32 * MIB)) as client,
        ):
            tasks = start_orders(client, server.url, call, 5)
            await wait_until_async(
                lambda: slow_seller.read_count == 5, "the seller has read five orders", timeout_seconds=30.0
            )
            await wait_until_async(
                lambda: not client.memory_budget.reserved_bytes, "all memory is released", timeout_seconds=10.0
            )
            assert not any(task.done() for task in tasks)
            slow_seller.may_answer.set()
            assert await are_all_answered(tasks)
            assert (client.memory_budget.reserved_bytes, client.memory_budget.waiter_count) == (0, 0)

    fake_servers.run_async(scenario())


def test_slow_uploads_delay_each_other_but_not_polls_or_downloads() -> None:
    async def scenario() -> None:
        slow_seller = SlowSeller()
        async with (
            fake_servers.run_server(slow_seller) as slow,
            fake_servers.run_server(fake_servers.make_responder(fake_servers.build_response(IMAGE))) as quick,
            SellerClient(memory_budget=MemoryBudget(48 * MIB)) as client,
        ):
            tasks = start_orders(client, slow.url, LARGE_ORDERS["JSON"], 6)
            await wait_until_async(lambda: slow.connection_count == 2, "two orders are being sent")
            assert (client.memory_budget.reserved_bytes, client.memory_budget.waiter_count) == (32 * MIB, 4)
            assert isinstance(
                await client.send(fake_servers.GET_CALL, fake_servers.make_seller(quick.url), PATIENT_OPTIONS), Answer
            )
            assert await client.download(f"{quick.url}/image", private=True) == IMAGE
            assert client.memory_budget.waiter_count == 4
            slow_seller.may_read.set()
            slow_seller.may_answer.set()
            assert await are_all_answered(tasks)

    fake_servers.run_async(scenario())


def test_order_without_free_memory_is_gateway_busy_and_fails_over() -> None:
    async def scenario() -> None:
        budget = MemoryBudget(32 * MIB)
        await budget.make_outgoing_reservation().grow_to(24 * MIB)
        async with (
            fake_servers.run_server(fake_servers.make_responder(fake_servers.build_response())) as server,
            SellerClient(memory_budget=budget) as client,
        ):
            options = CallOptions(timeout_seconds=60.0, memory_timeout_seconds=0.1)
            outcome = await client.send(LARGE_ORDERS["JSON"], fake_servers.make_seller(server.url), options)
            assert fake_servers.get_fault_kind(outcome) is FaultKind.GATEWAY_BUSY
            assert (server.connection_count, budget.waiter_count, budget.reserved_bytes) == (0, 0, 24 * MIB)

    fake_servers.run_async(scenario())
    verdict = VERDICTS[FaultKind.GATEWAY_BUSY]
    assert (verdict.charge_status, verdict.consequence, verdict.health_scope) == (
        ChargeStatus.NOT_CHARGED,
        PartConsequence.FAIL_OVER,
        HealthScope.NONE,
    )


@pytest.mark.thorough
def test_wait_for_memory_does_not_count_against_the_timeout() -> None:
    seconds = 2.0

    async def scenario() -> None:
        async with (
            fake_servers.run_server(fake_servers.make_responder(fake_servers.build_response(IMAGE))) as server,
            SellerClient(memory_budget=MemoryBudget(8 * MIB)) as client,
        ):
            budgets = client.memory_budget, client.url_memory_budget
            reservations = [budget.make_incoming_reservation() for budget in budgets]
            for reservation in reservations:
                await reservation.grow_to(8 * MIB)
            limits = DownloadLimits(timeout_seconds=seconds)
            download = asyncio.create_task(client.download(f"{server.url}/image", private=True, limits=limits))
            poll = asyncio.create_task(
                client.send(
                    fake_servers.GET_CALL, fake_servers.make_seller(server.url), CallOptions(timeout_seconds=seconds)
                )
            )
            await wait_until_async(
                lambda: all(budget.waiter_count == 1 for budget in budgets), "both calls wait for memory"
            )
            await asyncio.sleep(1.5 * seconds)
            assert not download.done()
            assert not poll.done()
            for reservation in reservations:
                reservation.release()
            assert await download == IMAGE
            assert isinstance(await poll, Answer)

    fake_servers.run_async(scenario())


def test_slow_response_after_memory_was_granted_times_out() -> None:
    async def scenario() -> None:
        budget = MemoryBudget(8 * MIB)
        first = budget.make_incoming_reservation()
        await first.grow_to(8 * MIB)
        head = fake_servers.build_response(bytes(MIB))
        async with (
            fake_servers.run_server(fake_servers.make_responder(head[: MIB // 2], b"", interval=3600.0)) as server,
            SellerClient(memory_budget=budget) as client,
        ):
            poll = asyncio.create_task(
                client.send(
                    fake_servers.GET_CALL, fake_servers.make_seller(server.url), CallOptions(timeout_seconds=0.5)
                )
            )
            await wait_until_async(lambda: budget.waiter_count == 1, "the call waits for memory")
            first.release()
            assert fake_servers.get_fault_kind(await poll) is FaultKind.RESPONSE_LOST
            assert (budget.reserved_bytes, budget.waiter_count) == (0, 0)

    fake_servers.run_async(scenario())


@pytest.mark.parametrize("declares_length", [True, False])
def test_large_response_reserves_little_more_memory_than_its_size(
    declares_length: bool,
) -> None:
    size = 60 * MIB

    async def scenario() -> None:
        may_finish, body = asyncio.Event(), bytes(size)

        async def send_in_two_parts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await fake_servers.read_request(reader)
            length = f"Content-Length: {size}" if declares_length else "Connection: close"
            writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode() + body[1:])
            await writer.drain()
            await may_finish.wait()
            writer.write(body[:1])
            await writer.drain()

        async with fake_servers.run_server(send_in_two_parts) as server, SellerClient() as client:
            options = CallOptions(timeout_seconds=60.0, max_response_bytes=96 * MIB)
            sending = asyncio.create_task(
                client.send(fake_servers.GET_CALL, fake_servers.make_seller(server.url), options)
            )
            await wait_until_async(
                lambda: client.memory_budget.reserved_bytes >= size - MIB,
                "memory for the response is reserved",
                timeout_seconds=30.0,
            )
            assert client.memory_budget.reserved_bytes <= size + 16 * MIB
            may_finish.set()
            outcome = await sending
            assert isinstance(outcome, Answer)
            assert len(outcome.body) == size
            assert client.memory_budget.reserved_bytes == 0
            assert (
                fake_servers.get_fault_kind(
                    await client.send(fake_servers.GET_CALL, fake_servers.make_seller(server.url), PATIENT_OPTIONS)
                )
                is FaultKind.UNREADABLE
            )

    fake_servers.run_async(scenario())
