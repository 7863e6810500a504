"""Route entries are resolved once for each catalogue."""

from types import SimpleNamespace
from typing import Any

from gateway.engine.offer_resolver import MAX_RESOLVED_ENTRIES, OfferResolver
from gateway.health.health_tracker import HealthKey
from tests.unit.jobs.job_scenario import make_route_entry

MODEL = "gpt-image-2"
ENTRY = make_route_entry()


class FakeCatalogue:
    """A catalogue in which every seller has this account and offers every model. It counts the searches."""

    def __init__(self, account: str, api_key: str | None = "key") -> None:
        self.account = SimpleNamespace(name=account, api_key=api_key)
        self.search_count = 0

    def find_offer(self, seller: str, model: str, *_: object) -> Any:
        self.search_count += 1
        return SimpleNamespace(model=model, seller=SimpleNamespace(name=seller, account=self.account))


def test_entry_is_searched_once_for_each_catalogue() -> None:
    resolver = OfferResolver()
    first: Any = FakeCatalogue("first")
    second: Any = FakeCatalogue("second", api_key=None)
    assert resolver.resolve(first, ENTRY, MODEL) is resolver.resolve(first, make_route_entry(), MODEL)
    search_count = first.search_count
    resolved = resolver.resolve(first, ENTRY, MODEL)
    assert resolved.offer is not None
    assert (resolved.offer.seller.account, resolved.is_configured) == (first.account, True)
    assert resolved.health_key == HealthKey(ENTRY.seller, "first", MODEL, ENTRY.cell)
    assert first.search_count == search_count
    replaced = resolver.resolve(second, ENTRY, MODEL)
    assert replaced.offer is not None
    assert (replaced.offer.seller.account, replaced.is_configured) == (second.account, False)
    assert resolver.resolve(first, ENTRY, MODEL).health_key == resolved.health_key


def test_another_entry_or_model_is_resolved_separately() -> None:
    resolver, catalogue = OfferResolver(), FakeCatalogue("account")
    entries: list[Any] = [(ENTRY, MODEL), (ENTRY, "other"), (make_route_entry(seller="other"), MODEL)]
    keys = {resolver.resolve(catalogue, entry, model).health_key for entry, model in entries}  # type: ignore[arg-type]
    assert len(keys) == len(entries)


def test_number_of_kept_entries_is_limited() -> None:
    resolver, catalogue = OfferResolver(), FakeCatalogue("account")
    for number in range(MAX_RESOLVED_ENTRIES + 10):
        resolver.resolve(catalogue, ENTRY, f"model {number}")  # type: ignore[arg-type]
    assert len(resolver._entries) == 10
