"""Finds what the catalogue configures for a route entry: once for each entry and catalogue."""

from msgspec import Struct

from gateway.catalogue import Catalogue, Offer
from gateway.health.health_tracker import HealthKey
from gateway.jobs.job import RouteEntry
from providers.orders import Cell

# More entries than a catalogue has cells. Jobs of earlier catalogues have other entries.
MAX_RESOLVED_ENTRIES = 4_096


class ResolvedEntry(Struct, frozen=True):
    """`offer`: None if the seller now has another account or address: the orders do not exist there. It may be
    draining, since it may still have open orders. `is_configured`: the seller has an API key here, under any adapter
    and account."""

    offer: Offer | None
    health_key: HealthKey | None
    is_configured: bool


class OfferResolver:
    """Resolves route entries, and keeps the results until the catalogue is replaced."""

    def __init__(self) -> None:
        self._catalogue: Catalogue | None = None
        self._entries: dict[tuple[RouteEntry, str], ResolvedEntry] = {}

    def resolve(self, catalogue: Catalogue, route_entry: RouteEntry, model: str) -> ResolvedEntry:
        if catalogue is not self._catalogue or len(self._entries) >= MAX_RESOLVED_ENTRIES:
            self._catalogue, self._entries = catalogue, {}
        resolved = self._entries.get((route_entry, model))
        if resolved is None:
            resolved = self._entries[route_entry, model] = _resolve_entry(catalogue, route_entry, model)
        return resolved


def _resolve_entry(catalogue: Catalogue, route_entry: RouteEntry, model: str) -> ResolvedEntry:
    offer = catalogue.find_offer(route_entry.seller, model, route_entry.adapter, route_entry.account_identity)
    current = catalogue.find_offer(route_entry.seller, model)
    return ResolvedEntry(
        offer=offer,
        health_key=make_health_key(offer, route_entry.cell) if offer else None,
        is_configured=current is not None and current.seller.account.api_key is not None,
    )


def make_health_key(offer: Offer, cell: Cell) -> HealthKey:
    return HealthKey(offer.seller.name, offer.seller.account.name, offer.model, cell)
