"""One question to a seller about one of its orders."""

from typing import Any

from msgspec.structs import replace

from gateway.catalogue import Offer
from gateway.engine.engine_context import EngineContext
from gateway.jobs.job import Attempt, Job, order_reference
from gateway.upstream.download import DEFAULT_LIMITS
from gateway.upstream.response_reader import read_response
from gateway.upstream.seller_client import CallOptions
from providers.adapter import Adapter, Call, Endpoint
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer, Progress
from providers.orders import Ticket

QUERY_OPTIONS = CallOptions(timeout_seconds=30.0)
# As large as a picture may be that is fetched by its link.
MAX_IMAGE_BYTES = DEFAULT_LIMITS.max_bytes


async def query_seller(
    context: EngineContext, step: "Endpoint[Any, Progress] | None", subject: object, offer: Offer
) -> Progress:
    """What the seller says; of a seller that cannot be asked so, that nothing was heard."""
    if step is None:
        return NoAnswer(fault=Fault(kind=FaultKind.RESPONSE_LOST))
    answer = await context.seller_client.send(step.build_call(subject), offer.seller, QUERY_OPTIONS)
    return await read_response(step.read_answer, answer)


async def poll_order(context: EngineContext, job: Job, attempt: Attempt, offer: Offer) -> Progress:
    """What the seller says of the order that has this attempt's ticket."""
    route_entry = job.route_entry(attempt)
    ticket = Ticket(attempt.ticket or "", route_entry.cell.operation, route_entry.model)
    return await query_seller(context, offer.seller.adapter.poll, ticket, offer)


async def verify_ticket(context: EngineContext, job: Job, attempt: Attempt, offer: Offer, ticket: str) -> bool | None:
    """Whether a ticket that a signed callback names is this attempt's. None if the seller cannot say so at the moment.

    A seller whose answers show our reference must show it. Of one whose answers never do, the attempt's own address,
    which only that order named, is as much as there is.
    """
    progress = await poll_order(context, job, replace(attempt, ticket=ticket), offer)
    if isinstance(progress, NoAnswer):
        return None
    return not echoes_references(offer) or progress.reference == order_reference(job.id, attempt.number)


def echoes_references(offer: Offer) -> bool:
    """What can be searched by our reference shows it."""
    return offer.seller.adapter.search is not None


async def resend_order(context: EngineContext, call: Call, offer: Offer, image_count: int) -> Progress:
    """The very order that was sent before, with its key."""
    options = replace(QUERY_OPTIONS, max_response_bytes=get_max_response_bytes(offer.seller.adapter, image_count))
    answer = await context.seller_client.send(call, offer.seller, options)
    return await read_response(offer.seller.adapter.submit.read_answer, answer)


def get_max_response_bytes(adapter: Adapter, image_count: int) -> int:
    """How large the answer to an order may be: it may hold all its pictures, as text, where it comes with the last.

    They are paid for, so no picture that would be fetched by its link is too large for this.
    """
    return (
        max(QUERY_OPTIONS.max_response_bytes, image_count * MAX_IMAGE_BYTES * 4 // 3)
        if adapter.is_synchronous
        else QUERY_OPTIONS.max_response_bytes
    )
