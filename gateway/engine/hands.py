"""What the engine works with. Made once, by the composition root."""

from collections.abc import Callable

from msgspec import Struct

from gateway.assets.shelf import Shelf
from gateway.catalogue import Catalogue, Offer
from gateway.engine.callbacks import CallbackAddresses
from gateway.events import Emit
from gateway.jobs.job import Place
from gateway.store.base import Store
from gateway.store.watching import Watches
from gateway.upstream.client import Upstream
from gateway.upstream.health import Health, Where
from gateway.upstream.limits import Limits, OrderBudget


class Hands(Struct, frozen=True, kw_only=True):
    """`now` is the wall clock, which jobs are written by; `clock` is monotonic, for health and limits. `waiting` are
    those in this process who wait for a job of its own."""

    store: Store
    upstream: Upstream
    shelf: Shelf
    health: Health
    limits: Limits
    orders: OrderBudget
    catalogue: Callable[[], Catalogue]
    callbacks: CallbackAddresses | None
    waiting: Watches
    emit: Emit
    now: Callable[[], float]
    clock: Callable[[], float]

    def offer_at(self, place: Place, model: str) -> Offer | None:
        """The offer that a place of a route stands for; also one that is draining, since orders of it may be open.

        A seller that has moved to another account or address since then is another one: it knows nothing of them.
        """
        return self.catalogue().offer(place.seller, model, place.adapter, place.account)

    def where(self, place: Place, model: str) -> Where | None:
        """What health knows a place by."""
        offer = self.offer_at(place, model)
        return Where(place.seller, offer.seller.account.name, model, place.cell) if offer else None
