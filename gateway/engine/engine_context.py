"""The dependencies of all engine components. The composition root creates the context once."""

from collections.abc import Callable

from msgspec import Struct, field

from gateway.assets.storage import ImageStorage
from gateway.catalogue import Catalogue, Offer
from gateway.engine.callback_urls import CallbackUrls
from gateway.engine.canary_board import CanaryBoard
from gateway.engine.image_document_cache import ImageDocumentCache
from gateway.engine.moderation_client import ModerationClient
from gateway.engine.offer_resolver import OfferResolver
from gateway.engine.open_job_counter import OpenJobCounter
from gateway.engine.route_entry_builder import RouteEntryBuilder
from gateway.engine.unread_images import UnreadImages
from gateway.events import EventSink
from gateway.health.account_limiters import AccountLimiters
from gateway.health.health_tracker import HealthKey, HealthTracker
from gateway.health.retry_budget import RetryBudget
from gateway.jobs.job import RouteEntry
from gateway.store.base import Store
from gateway.store.job_watch import JobWatchers
from gateway.timeouts_and_intervals import Timing
from gateway.upstream.seller_client import SellerClient

MAX_RELEASE_COUNTS = 10_000


class ReleaseCounts:
    """Counts how often this process released each job to other replicas. Keeps the latest MAX_RELEASE_COUNTS jobs."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def increment(self, job_id: str) -> int:
        """Counts one more release of the job. Returns the number of earlier releases."""
        previous_count = self._counts.pop(job_id, 0)
        self._counts[job_id] = previous_count + 1
        if len(self._counts) > MAX_RELEASE_COUNTS:
            del self._counts[next(iter(self._counts))]
        return previous_count


class EngineContext(Struct, kw_only=True):
    """The dependencies of every engine component.

    `wall_clock` stamps jobs; `monotonic` is for health and limits. `job_watchers` wait in this process for changes of
    jobs that it runs. `callback_urls` is None if the gateway has no public URL. `draw_random`: a number from 0 to 1.
    `draw_bytes`: secret bytes for ids. `timing`: the times in force; only a reload replaces them. `is_traced`: calls to
    sellers have events, since traces are exported.
    """

    store: Store
    seller_client: SellerClient
    storage: ImageStorage
    moderation_client: ModerationClient
    health: HealthTracker
    limits: AccountLimiters
    retry_budget: RetryBudget
    catalogue: Callable[[], Catalogue]
    callback_urls: CallbackUrls | None
    job_watchers: JobWatchers
    emit: EventSink
    wall_clock: Callable[[], float]
    monotonic: Callable[[], float]
    draw_random: Callable[[], float]
    draw_bytes: Callable[[int], bytes]
    timing: Timing
    is_traced: bool = False
    canaries: CanaryBoard = field(default_factory=CanaryBoard)
    open_jobs: OpenJobCounter = field(default_factory=OpenJobCounter)
    release_counts: ReleaseCounts = field(default_factory=ReleaseCounts)
    image_document_cache: ImageDocumentCache = field(default_factory=ImageDocumentCache)
    unread_images: UnreadImages = field(default_factory=UnreadImages)
    offer_resolver: OfferResolver = field(default_factory=OfferResolver)
    route_entry_maker: RouteEntryBuilder = field(default_factory=RouteEntryBuilder)

    def find_offer(self, route_entry: RouteEntry, model: str) -> Offer | None:
        """Returns the configured offer of a route entry. The offer may be draining, since it may still have open
        orders.

        Returns None if the seller now has another account or address: the orders do not exist there.
        """
        return self.offer_resolver.resolve(self.catalogue(), route_entry, model).offer

    def is_configured(self, route_entry: RouteEntry, model: str) -> bool:
        """Returns whether this replica can decide about a route entry: its seller is configured with an API key.

        A draining seller counts as configured. If the seller is not configured here, another replica may have its key.
        """
        return self.offer_resolver.resolve(self.catalogue(), route_entry, model).is_configured

    def get_health_key(self, route_entry: RouteEntry, model: str) -> HealthKey | None:
        """Returns the key of a route entry in the health tracker; None if its offer is not configured."""
        return self.offer_resolver.resolve(self.catalogue(), route_entry, model).health_key
