"""The cost of a finished order, and what it should be by the configured prices."""

from gateway.catalogue import Offer
from gateway.jobs.job import Attempt, Job
from providers.order_status import Failed, Ready, TokenUsage


def compute_cost(progress: Ready | Failed, offer: Offer) -> int | None:
    """Returns the charge that the seller reports, in micro-USD.

    Without a report, it is computed from the token usage if the offer is priced by tokens; None if it is unknown.
    """
    cost = progress.cost if isinstance(progress, Ready) else progress.fault.cost
    if cost is not None or progress.usage is None or offer.token_prices is None:
        return cost
    return offer.token_prices.compute_cost(progress.usage)


def compute_expected_cost(job: Job, attempt: Attempt, offer: Offer) -> int:
    """Returns what the delivered images of an attempt should cost, in micro-USD.

    The price of an offer that is billed by tokens is an estimate. It should cost what the token counts of the seller
    give, or, without them, at most what was held.
    """
    route_entry, image_count = job.route_entry(attempt), attempt.delivered_count
    if offer.token_prices is None:
        return route_entry.price * image_count + job.get_order_price(attempt.route_index)
    count = next((count for count in job.token_counts if count.attempt == attempt.number), None)
    if count is None:
        return route_entry.ceiling * image_count + job.hold_per_order
    usage = TokenUsage(input_text=count.text, input_image=count.image, output=count.output)
    return offer.token_prices.compute_cost(usage)


def is_price_mismatch(cost: int, expected_cost: int, offer: Offer) -> bool:
    """Returns whether a seller charged another price than configured: with prices by tokens, only a higher one."""
    return cost != expected_cost if offer.token_prices is None else cost > expected_cost
