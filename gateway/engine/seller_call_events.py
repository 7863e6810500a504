"""Emits an event for each HTTP call to a seller, if traces are exported."""

from collections.abc import Awaitable
from typing import TypeVar

from msgspec import Struct

from gateway.engine.commit_events import identify_job
from gateway.engine.engine_context import EngineContext
from gateway.events import SellerCallEnded, SellerCallStep
from gateway.jobs.job import Job
from providers.adapter import Answer
from providers.order_status import NoAnswer

AnswerT = TypeVar("AnswerT")


class SellerCall(Struct, frozen=True):
    """The purpose of a call. `attempt`: None for an upload, which precedes the attempt."""

    job: Job
    attempt: int | None
    seller: str
    step: SellerCallStep


async def observe_seller_call(context: EngineContext, seller_call: SellerCall, answer: Awaitable[AnswerT]) -> AnswerT:
    """Awaits the answer to a call, and emits the event of the call."""
    if not context.is_traced:
        return await answer
    started_at, status, fault = context.monotonic(), None, None
    try:
        result = await answer
        if isinstance(result, Answer):
            status = result.status
        elif isinstance(result, NoAnswer):
            fault = str(result.fault.kind)
        return result
    except BaseException as error:
        # Also of a cancelled call, which the seller has received.
        fault = type(error).__name__
        raise
    finally:
        context.emit(
            SellerCallEnded(
                **identify_job(seller_call.job, context.wall_clock()),
                seller=seller_call.seller,
                attempt=seller_call.attempt,
                step=seller_call.step,
                seconds=context.monotonic() - started_at,
                status=status,
                fault=fault,
            )
        )
