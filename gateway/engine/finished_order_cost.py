"""The cost of a finished order."""

from gateway.catalogue import Offer
from providers.order_status import Failed, Ready


def compute_cost(progress: Ready | Failed, offer: Offer) -> int | None:
    """Returns the charge that the seller reports, in micro-USD.

    Without a report, it is computed from the token usage if the offer is priced by tokens; None if it is unknown.
    """
    cost = progress.cost if isinstance(progress, Ready) else progress.fault.cost
    if cost is not None or progress.usage is None or offer.token_prices is None:
        return cost
    return offer.token_prices.compute_cost(progress.usage)
