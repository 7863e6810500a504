"""One question to a seller about one of its orders."""

from typing import Any

from msgspec.structs import replace

from gateway.catalogue import Offer
from gateway.engine.hands import Hands
from gateway.jobs.job import Attempt, Job, reference_of
from gateway.upstream.client import Exchange
from gateway.upstream.download import DEFAULT_LIMITS
from gateway.upstream.reading import understood
from providers.faults import Fault, FaultKind
from providers.orders import Ticket
from providers.progress import Progress, Unanswered
from providers.spec import Adapter, Call, Step

ASK = Exchange(seconds=30.0)
# As large as a picture may be that is fetched by its link.
MOST_PICTURE_BYTES = DEFAULT_LIMITS.most_bytes


async def ask(hands: Hands, step: "Step[Any, Progress] | None", subject: object, offer: Offer) -> Progress:
    """What the seller says; of a seller that cannot be asked so, that nothing was heard."""
    if step is None:
        return Unanswered(fault=Fault(kind=FaultKind.LOST))
    answer = await hands.upstream.perform(step.ask(subject), offer.seller, ASK)
    return await understood(step.read, answer)


async def ask_about(hands: Hands, job: Job, attempt: Attempt, offer: Offer) -> Progress:
    """What the seller says of the order that has this attempt's ticket."""
    place = job.place_of(attempt)
    ticket = Ticket(attempt.ticket or "", place.cell.operation, place.model)
    return await ask(hands, offer.seller.adapter.poll, ticket, offer)


async def is_its_ticket(hands: Hands, job: Job, attempt: Attempt, offer: Offer, ticket: str) -> bool | None:
    """Whether a ticket that a signed callback names is this attempt's. None if the seller cannot say so at the moment.

    A seller whose answers show our reference must show it. Of one whose answers never do, the attempt's own address,
    which only that order named, is as much as there is.
    """
    progress = await ask_about(hands, job, replace(attempt, ticket=ticket), offer)
    if isinstance(progress, Unanswered):
        return None
    return not shows_references(offer) or progress.reference == reference_of(job.id, attempt.number)


def shows_references(offer: Offer) -> bool:
    """What can be searched by our reference shows it."""
    return offer.seller.adapter.find is not None


async def order_again(hands: Hands, call: Call, offer: Offer, images: int) -> Progress:
    """The very order that was sent before, with its key."""
    exchange = replace(ASK, most_bytes=most_bytes_of(offer.seller.adapter, images))
    answer = await hands.upstream.perform(call, offer.seller, exchange)
    return await understood(offer.seller.adapter.submit.read, answer)


def most_bytes_of(adapter: Adapter, images: int) -> int:
    """How large the answer to an order may be: it may hold all its pictures, as text, where it comes with the last.

    They are paid for, so no picture that would be fetched by its link is too large for this.
    """
    return max(ASK.most_bytes, images * MOST_PICTURE_BYTES * 4 // 3) if adapter.holds_connection else ASK.most_bytes
