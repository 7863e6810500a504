"""What the engine works with. Made once, by the composition root."""

from collections.abc import Callable

from msgspec import Struct, field

from gateway.assets.storage import ImageStorage
from gateway.catalogue import Catalogue, Offer
from gateway.engine.callback_urls import CallbackUrls
from gateway.events import EventSink
from gateway.health.health_tracker import HealthKey, HealthTracker
from gateway.health.order_limits import OrderLimits, RetryBudget
from gateway.jobs.job import RouteEntry
from gateway.store.base import Store
from gateway.store.job_watch import JobWatchers
from gateway.upstream.seller_client import SellerClient

MAX_RELEASE_COUNTS = 10_000


class ReleaseCounts:
    """The jobs that were left to other replicas lately, and how often."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def increment(self, job_id: str) -> int:
        """One more time. How often it was before."""
        previous_count = self._counts.pop(job_id, 0)
        self._counts[job_id] = previous_count + 1
        if len(self._counts) > MAX_RELEASE_COUNTS:
            del self._counts[next(iter(self._counts))]
        return previous_count


class EngineContext(Struct, frozen=True, kw_only=True):
    """`wall_clock` is the wall clock, which jobs are written by; `monotonic` is monotonic, for health and limits. `job_watchers` are
    those in this process who wait for a job of its own."""

    store: Store
    seller_client: SellerClient
    storage: ImageStorage
    health: HealthTracker
    limits: OrderLimits
    retry_budget: RetryBudget
    catalogue: Callable[[], Catalogue]
    callback_urls: CallbackUrls | None
    job_watchers: JobWatchers
    emit: EventSink
    wall_clock: Callable[[], float]
    monotonic: Callable[[], float]
    release_counts: ReleaseCounts = field(default_factory=ReleaseCounts)

    def find_offer(self, route_entry: RouteEntry, model: str) -> Offer | None:
        """The offer that a place of a route stands for; also one that is draining, since orders of it may be open.

        A seller that has moved to another account or address since then is another one: it knows nothing of them.
        """
        return self.catalogue().find_offer(route_entry.seller, model, route_entry.adapter, route_entry.account_identity)

    def is_configured(self, route_entry: RouteEntry, model: str) -> bool:
        """Whether this configuration says what is bought there, were it nothing: it has such a seller, or dropped it.

        One that was never here, or has no key here, may be at home with another replica.
        """
        offer = self.catalogue().find_offer(route_entry.seller, model)
        return offer is not None and offer.seller.account.api_key is not None

    def get_health_key(self, route_entry: RouteEntry, model: str) -> HealthKey | None:
        """What health knows a place by."""
        offer = self.find_offer(route_entry, model)
        return HealthKey(route_entry.seller, offer.seller.account.name, model, route_entry.cell) if offer else None
