"""The size limit of a response: images in it have been paid for, however many and large they are."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.engine.job_context import JobContext
from gateway.engine.order_submitter import OrderSubmitter
from gateway.engine.seller_queries import get_max_response_bytes, resend_order
from gateway.timeouts_and_intervals import Timing
from gateway.upstream.download import DEFAULT_LIMITS
from gateway.upstream.seller_client import CallOptions
from providers import ADAPTERS
from providers.adapter import Call
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer
from tests.unit.jobs.job_scenario import START, JobScenario, make_new_job

DEFAULT_MAX_BYTES = CallOptions(timeout_seconds=1.0).max_response_bytes
SYNCHRONOUS_ADAPTERS = [adapter for adapter in ADAPTERS.values() if adapter.is_synchronous]
POLLED_ADAPTERS = [adapter for adapter in ADAPTERS.values() if not adapter.is_synchronous]
ORDER_CALL = Call(method="POST", location="/orders")


@pytest.mark.parametrize("adapter", SYNCHRONOUS_ADAPTERS, ids=lambda adapter: adapter.name)
def test_response_limit_of_synchronous_seller_fits_all_images(adapter: Any) -> None:
    for images in range(1, 11):
        as_text = images * DEFAULT_LIMITS.max_bytes * 4 // 3
        assert get_max_response_bytes(adapter, images) >= max(as_text, DEFAULT_MAX_BYTES)


@pytest.mark.parametrize("adapter", POLLED_ADAPTERS, ids=lambda adapter: adapter.name)
def test_response_limit_of_polled_seller_is_the_default(adapter: Any) -> None:
    assert get_max_response_bytes(adapter, 10) == DEFAULT_MAX_BYTES


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=lambda adapter: adapter.name)
@pytest.mark.parametrize("images", [1, 4])
def test_first_and_resent_orders_use_same_response_limit(adapter: Any, images: int) -> None:
    assert asyncio.run(_record_response_limits(adapter, images)) == [get_max_response_bytes(adapter, images)] * 2


async def _record_response_limits(adapter: Any, images: int) -> list[int]:
    """Returns the response limits of an order, and of the same order when it is resent."""
    limits: list[int] = []

    async def record_limit(call: Call, seller: object, exchange: CallOptions) -> NoAnswer:
        limits.append(exchange.max_response_bytes)
        return NoAnswer(fault=Fault(kind=FaultKind.RESPONSE_LOST))

    async def accept_message(*_: object) -> bool:
        return True

    account = SimpleNamespace(name="account", replay_trusted=True)
    offer: Any = SimpleNamespace(seller=SimpleNamespace(name="seller", adapter=adapter, account=account))
    context: Any = SimpleNamespace(
        seller_client=SimpleNamespace(send=record_limit),
        limits=SimpleNamespace(on_fault=lambda *_: None),
        wall_clock=lambda: START,
        storage=None,
        timing=Timing(),
        is_traced=False,
    )
    scenario = JobScenario(make_new_job(n=images))
    number = scenario.start_attempt(0, tuple(range(images)))
    job_context = JobContext(context, scenario.job, 1)
    job_context.mailbox.post = accept_message  # type: ignore[assignment,method-assign]
    tracker: Any = None
    await OrderSubmitter(job_context, tracker).send(offer, number, ORDER_CALL, job_context.fence)
    await resend_order(context, scenario.job, scenario.last_attempt, offer, ORDER_CALL)
    return limits
