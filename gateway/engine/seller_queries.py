"""Queries a seller about one order: poll, search, ticket check, resend."""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.catalogue import Offer
from gateway.engine.engine_context import EngineContext
from gateway.engine.seller_call_events import SellerCall, observe_seller_call
from gateway.events import SellerCallStep
from gateway.jobs.job import Attempt, Job, order_reference
from gateway.upstream.download import DEFAULT_LIMITS
from gateway.upstream.response_parser_thread import parse_response
from gateway.upstream.seller_client import MAX_RESPONSE_BYTES, CallOptions
from providers.adapter import Adapter, Call, Endpoint
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer, Progress
from providers.orders import OrderReference, Ticket


class OrderQuery(Struct, frozen=True):
    """A query about an order at the seller of `offer`. `endpoint`: None if the adapter has no such query."""

    step: SellerCallStep
    endpoint: "Endpoint[Any, Progress] | None"
    subject: object


async def query_seller(context: EngineContext, job: Job, attempt: Attempt, offer: Offer, query: OrderQuery) -> Progress:
    """Sends a query and returns the order's progress. Returns NoAnswer if the adapter has no such query."""
    if query.endpoint is None:
        return NoAnswer(fault=Fault(kind=FaultKind.RESPONSE_LOST))
    answer = await observe_seller_call(
        context,
        SellerCall(job, attempt.number, offer.seller.name, query.step),
        context.seller_client.send(query.endpoint.build_call(query.subject), offer.seller, _make_options(context)),
    )
    return await parse_response(query.endpoint.read_answer, answer)


async def poll_order(context: EngineContext, job: Job, attempt: Attempt, offer: Offer) -> Progress:
    """Polls the order that has this attempt's ticket."""
    route_entry = job.route_entry(attempt)
    ticket = Ticket(attempt.ticket or "", route_entry.cell.operation, route_entry.model)
    query = OrderQuery(SellerCallStep.POLL, offer.seller.adapter.poll, ticket)
    return await query_seller(context, job, attempt, offer, query)


async def search_order(
    context: EngineContext, job: Job, attempt: Attempt, offer: Offer, search_number: int
) -> Progress:
    """Searches the seller's orders for the one of this attempt. `search_number`: of earlier searches."""
    subject = OrderReference(order_reference(job.id, attempt.number), search_number)
    query = OrderQuery(SellerCallStep.SEARCH, offer.seller.adapter.search, subject)
    return await query_seller(context, job, attempt, offer, query)


async def verify_ticket(context: EngineContext, job: Job, attempt: Attempt, offer: Offer, ticket: str) -> bool | None:
    """Returns whether the ticket in a signed callback belongs to this attempt; None if the seller does not answer.

    If the seller's status contains order references, it must contain the reference of this attempt. For other sellers
    the callback URL is proof enough: only the order of this attempt contained it. A ticket that another attempt of the
    job has already belongs to that one.
    """
    if any(other.ticket == ticket and other.number != attempt.number for other in job.attempts):
        return False
    progress = await poll_order(context, job, replace(attempt, ticket=ticket), offer)
    if isinstance(progress, NoAnswer):
        return None
    return not can_identify_orders(offer) or progress.reference == order_reference(job.id, attempt.number)


def can_identify_orders(offer: Offer) -> bool:
    """Returns whether the seller's statuses contain order references. Sellers that can search orders by reference also
    return it."""
    return offer.seller.adapter.search is not None


async def resend_order(context: EngineContext, job: Job, attempt: Attempt, offer: Offer, call: Call) -> Progress:
    """Sends the saved order once more, with the same idempotency key."""
    max_bytes = get_max_response_bytes(offer.seller.adapter, len(attempt.images))
    options = replace(_make_options(context), max_response_bytes=max_bytes)
    answer = await observe_seller_call(
        context,
        SellerCall(job, attempt.number, offer.seller.name, SellerCallStep.RESEND),
        context.seller_client.send(call, offer.seller, options),
    )
    return await parse_response(offer.seller.adapter.submit.read_answer, answer)


def get_max_response_bytes(adapter: Adapter, image_count: int) -> int:
    """Returns the limit for the response to an order. A synchronous seller's response contains all images as base64.

    The images are paid for, so each may be as large as an image that is downloaded by its URL.
    """
    return (
        max(MAX_RESPONSE_BYTES, image_count * DEFAULT_LIMITS.max_bytes * 4 // 3)
        if adapter.is_synchronous
        else MAX_RESPONSE_BYTES
    )


def _make_options(context: EngineContext) -> CallOptions:
    return CallOptions(timeout_seconds=context.timing.orders.query_timeout_seconds)
