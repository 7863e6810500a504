"""What the engine works with. Made once, by the composition root."""

from collections.abc import Callable

from msgspec import Struct, field

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

MOST_LEFT = 10_000


class Left:
    """The jobs that were left to other replicas lately, and how often."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}

    def again(self, job: str) -> int:
        """One more time. How often it was before."""
        times = self._times.pop(job, 0)
        self._times[job] = times + 1
        if len(self._times) > MOST_LEFT:
            del self._times[next(iter(self._times))]
        return times


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
    left: Left = field(default_factory=Left)

    def offer_at(self, place: Place, model: str) -> Offer | None:
        """The offer that a place of a route stands for; also one that is draining, since orders of it may be open.

        A seller that has moved to another account or address since then is another one: it knows nothing of them.
        """
        return self.catalogue().offer(place.seller, model, place.adapter, place.account)

    def decides_about(self, place: Place, model: str) -> bool:
        """Whether this configuration says what is bought there, were it nothing: it has such a seller, or dropped it.

        One that was never here, or has no key here, may be at home with another replica.
        """
        offer = self.catalogue().offer(place.seller, model)
        return offer is not None and offer.seller.account.secret is not None

    def where(self, place: Place, model: str) -> Where | None:
        """What health knows a place by."""
        offer = self.offer_at(place, model)
        return Where(place.seller, offer.seller.account.name, model, place.cell) if offer else None
