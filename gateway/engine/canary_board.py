"""Counts the images and charges of the canaries of all policies, from the ledger of all replicas."""

from collections.abc import Iterable

from gateway.catalogue import Catalogue, Offer
from gateway.engine.canary_events import CanaryPassed
from gateway.events import EventSink
from gateway.jobs.transition_tables import LedgerLine
from gateway.routing.canary import CanaryProgress, has_delivered
from gateway.store.statistics import LifetimeTotal

# Lines of images that the seller did not deliver, whether it charged them or not.
UNDELIVERED_LINES = (LedgerLine.ORPHAN, LedgerLine.SUSPECTED, LedgerLine.FAILED)


class CanaryBoard:
    """The progress of each canary, from the lifetime totals of the ledger: written by the commits of all replicas, and
    kept as long as the store. Until the first reading every canary begins at zero."""

    def __init__(self) -> None:
        self.progress: dict[str, CanaryProgress] = {}

    def update(self, catalogue: Catalogue, totals: Iterable[LifetimeTotal], emit: EventSink) -> None:
        """Sums the totals of each canary. Emits an event when the last of its images is delivered."""
        policies = catalogue.policies.policies
        canaries = catalogue.policies.canary_sellers
        if not canaries and not self.progress:
            return
        before, totals = self.progress, [total for total in totals if total.account.seller in canaries]
        offers = {(offer.seller.name, offer.model): offer for offer in catalogue.iter_offers()}
        self.progress = {
            seller: _sum_progress([total for total in totals if total.account.seller == seller], offers)
            for seller in canaries
        }
        for name, policy in policies.items():
            if policy.canary and (previous := before.get(seller := policy.canary.seller)):
                current = self.progress[seller]
                if has_delivered(policy.canary, current) and not has_delivered(policy.canary, previous):
                    emit(CanaryPassed(policy=name, seller=seller, images=current.images))


def _sum_progress(totals: Iterable[LifetimeTotal], offers: dict[tuple[str, str], Offer]) -> CanaryProgress:
    images = undelivered = charged = quoted = 0
    for total in totals:
        account, count = total.account, total.charged_images - total.corrected_images
        amount = total.charged - total.corrected
        if account.line in UNDELIVERED_LINES:
            undelivered += count
            continue
        charged += amount
        if account.line is not LedgerLine.CAPTURE:
            continue
        images += count
        offer = offers.get((account.seller, account.model))
        price = offer.prices.get(account.cell) if offer else None
        if offer is None or price is None:
            # The price of a cell that is not sold any more is unknown, so what it cost proves nothing.
            quoted += amount
        else:
            # With prices by tokens the price is an estimate.
            quoted += (price.ceiling if offer.token_prices else price.price) * count
    return CanaryProgress(images=images, undelivered=undelivered, charged=charged, quoted=quoted)
