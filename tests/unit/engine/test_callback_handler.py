"""A callback arrives at a replica that does not own the job, while its owner still awaits the response to the order."""

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.config.value_types import Secret
from gateway.engine.callback_handler import CallbackHandler, RetryLater
from gateway.engine.callback_urls import CallbackUrls
from gateway.engine.engine import Engine
from gateway.events import OrderAccepted
from gateway.jobs.job import Attempt, Job
from gateway.jobs.job_update_types import CancelRequested, Fact, ResponseLost, TicketReceived
from gateway.store.base import FIRST_FENCE, Applied
from gateway.timeouts_and_intervals import Timing
from providers import ADAPTERS
from providers.adapter import Answer, Call
from tests.harness.memory_store import MemoryState, MemoryStore, StoreCall
from tests.harness.signed_callbacks import sign_runapi_callback
from tests.harness.virtual_time_loop import in_virtual_time
from tests.store import job_factory

SECRET = Secret("d2hzZWNfZXhwbG9yZXI=")
URLS = CallbackUrls("https://gateway.test", [b"the signing secret of all replicas"])


class CallbackWorld:
    """Two replicas with one store. The owner has sent an order; the other one receives its callbacks. RunAPI's statuses
    name no reference."""

    def __init__(self) -> None:
        self.state, self.events = MemoryState(), list[Any]()
        self.owner = MemoryStore(self.state, replica_id="owner", clock=self.read_clock)
        self.store = MemoryStore(self.state, replica_id="other", clock=self.read_clock)
        self.offer: Any = SimpleNamespace(
            seller=SimpleNamespace(
                name="runapi", adapter=ADAPTERS["runapi"], account=SimpleNamespace(callback_secrets=[SECRET])
            )
        )
        context: Any = SimpleNamespace(
            store=self.store,
            emit=self.events.append,
            wall_clock=self.read_clock,
            monotonic=self.read_clock,
            callback_urls=URLS,
            seller_client=self,
            find_offer=lambda *_: self.offer,
            timing=Timing(),
            is_traced=False,
        )
        self.handler = CallbackHandler(Engine(context, lease_seconds=15.0))

    def read_clock(self) -> float:
        return job_factory.NOON + asyncio.get_running_loop().time()

    async def open_with_order(self) -> Job:
        await self.owner.open()
        await self.store.open()
        commit = job_factory.make_create_commit(self.read_clock())
        assert await self.owner.commit(commit) == Applied()
        started = job_factory.make_attempt_started(commit.job, FIRST_FENCE)
        commit = job_factory.make_update_commit(commit.job, started, self.read_clock())
        assert await self.owner.commit(commit) == Applied()
        return commit.job

    async def save_at_owner(self, job_id: str, fact: Fact) -> None:
        job = self.state.jobs[job_id].job
        assert await self.owner.commit(job_factory.make_update_commit(job, fact, self.read_clock())) == Applied()

    async def deliver_callback(self, job: Job, order_id: str) -> bool:
        body = msgspec.json.encode({"id": order_id, "status": "completed"})
        headers = sign_runapi_callback(body, f"msg_{order_id}", SECRET.reveal(), self.read_clock())
        signature = URLS.build_url("runapi", job.id, 1).rpartition("/")[2]
        return await self.handler.handle(("runapi", job.id, 1, signature), headers, body)

    def get_attempt(self, job: Job) -> Attempt:
        return self.state.jobs[job.id].job.attempts[0]

    async def send(self, call: Call, *_: object) -> Answer:
        """Answers a poll, in place of the seller."""
        return Answer(200, {}, msgspec.json.encode({"id": call.location.rpartition("/")[2], "status": "processing"}))


class ConflictAtCommit:
    """Lets the owner save something just before each of the first commits of the other replica."""

    def __init__(self, world: CallbackWorld, job_id: str, *facts: Fact) -> None:
        self._world, self._job_id, self._facts = world, job_id, list(facts)

    async def before_call(self, call: StoreCall) -> None:
        if call.name == "commit" and self._facts:
            await self._world.save_at_owner(self._job_id, self._facts.pop(0))

    async def after_call(self, call: StoreCall, result: object) -> None:
        """Leaves the result as it is."""


@in_virtual_time
async def test_callback_before_the_response_does_not_name_the_order() -> None:
    """The seller confuses two orders in a callback. The response to the order names the right one."""
    world = CallbackWorld()
    job = await world.open_with_order()
    with pytest.raises(RetryLater):
        await world.deliver_callback(job, "order-of-another-job")
    assert world.get_attempt(job).ticket is None
    assert world.get_attempt(job).callback_at is not None
    await world.save_at_owner(job.id, TicketReceived(attempt=1, ticket="order-1"))
    assert world.get_attempt(job).ticket == "order-1"


@in_virtual_time
async def test_callback_of_a_lost_order_names_it_and_is_an_event_once() -> None:
    world = CallbackWorld()
    job = await world.open_with_order()
    await world.save_at_owner(job.id, ResponseLost(attempt=1))
    assert await world.deliver_callback(job, "order-1")
    assert world.get_attempt(job).ticket == "order-1"
    assert len([event for event in world.events if isinstance(event, OrderAccepted)]) == 1


@in_virtual_time
async def test_callback_is_saved_although_its_commits_conflict_with_the_owner() -> None:
    """It is the only evidence of a lost order, and its seller might not send it again."""
    world = CallbackWorld()
    job = await world.open_with_order()
    world.store.interceptor = ConflictAtCommit(world, job.id, ResponseLost(attempt=1), CancelRequested())
    assert await world.deliver_callback(job, "order-1")
    assert world.get_attempt(job).ticket == "order-1"
    assert world.get_attempt(job).callback_at is not None
