"""Makes the route entries of jobs from the ranked offers of their plans: once for each way to order an offer."""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.catalogue import Catalogue, Offer
from gateway.engine.callback_urls import CallbackUrls
from gateway.engine.job_documents import OrderTerms
from gateway.jobs.job import RecoveryMethod, RouteEntry
from gateway.routing.fit import Fit
from gateway.routing.routing_request import RoutingRequest
from gateway.timeouts_and_intervals import OrderTiming, Timing

# As many as the catalogue caches fits.
MAX_KEPT_ENTRIES = 4_096


class OrderableEntry(Struct, frozen=True):
    """A route entry, and the terms of its orders."""

    entry: RouteEntry
    terms: OrderTerms


class EntrySettings(Protocol):
    """What route entries depend on besides the offer: a part of the engine's context."""

    @property
    def catalogue(self) -> Callable[[], Catalogue]: ...

    @property
    def timing(self) -> Timing: ...

    @property
    def callback_urls(self) -> CallbackUrls | None: ...


class RouteEntryBuilder:
    """Makes route entries. The catalogue caches its fits, so an equal request gets the same entries again."""

    def __init__(self) -> None:
        self._catalogue: Catalogue | None = None
        self._timing: OrderTiming | None = None
        # By the identity of the fit, which the value keeps alive.
        self._entries: dict[int, tuple[Fit, OrderableEntry]] = {}

    def make_entries(
        self, settings: EntrySettings, fits: Sequence[Fit], request: RoutingRequest
    ) -> tuple[OrderableEntry, ...]:
        """Makes one entry for each fit. `request`: the request that was matched to the fits."""
        catalogue, timing = settings.catalogue(), settings.timing.orders
        is_current = catalogue is self._catalogue and timing is self._timing
        if not is_current or len(self._entries) >= MAX_KEPT_ENTRIES:
            self._catalogue, self._timing, self._entries = catalogue, timing, {}
        made = []
        for fit in fits:
            if (cached := self._entries.get(id(fit))) is None:
                entry = OrderableEntry(_make_route_entry(settings, fit), _make_order_terms(fit, request))
                cached = self._entries[id(fit)] = fit, entry
            made.append(cached[1])
        return tuple(made)


def _make_route_entry(settings: EntrySettings, fit: Fit) -> RouteEntry:
    offer, cell, timing = fit.offer, fit.cell, settings.timing.orders
    price = offer.prices[cell]
    expected_latency = offer.expected_latency[cell.quality]
    return RouteEntry(
        seller=offer.seller.name,
        adapter=offer.seller.adapter.name,
        model=offer.remote_model,
        cell=cell,
        max_images=offer.images_per_order,
        price=price.price,
        ceiling=price.ceiling,
        timeout_seconds=max(timing.min_attempt_timeout_seconds, timing.attempt_timeout_factor * expected_latency.p90),
        is_pollable=offer.seller.adapter.poll is not None,
        recovery_method=_choose_recovery_method(offer, settings.callback_urls is not None),
        account_identity=offer.seller.account.identity,
        is_canary=offer.seller.name in settings.catalogue().policies.canary_sellers,
    )


def _choose_recovery_method(offer: Offer, has_callback_urls: bool) -> RecoveryMethod:
    adapter, account = offer.seller.adapter, offer.seller.account
    if adapter.has_idempotency_key and account.replay_trusted:
        return RecoveryMethod.REPLAY
    if adapter.search is not None:
        return RecoveryMethod.SEARCH
    has_callbacks = has_callback_urls and adapter.callback is not None and account.callback_secrets
    return RecoveryMethod.CALLBACK if has_callbacks else RecoveryMethod.NONE


def _make_order_terms(fit: Fit, request: RoutingRequest) -> OrderTerms:
    offer, cell = fit.offer, fit.cell
    is_selectable = cell.quality in offer.selectable_qualities
    return OrderTerms(
        size=fit.size,
        quality=cell.quality if is_selectable else None,
        quality_word=offer.quality_words.get(cell.quality) if is_selectable else None,
        output_format=request.output_format if request.output_format in offer.formats else None,
        background=request.background,
        substitutions=tuple(f"{substitution.name}: {substitution.detail}" for substitution in fit.substitutions),
    )
