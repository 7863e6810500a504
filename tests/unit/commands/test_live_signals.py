"""A running gateway's signals, expected latencies and keys replace those of the local files."""

from gateway.catalogue import Catalogue
from gateway.commands.live_signals import CellSignalsEntry, SignalsResponse
from gateway.routing.plan import Plan, RoutingQuery, make_plan
from providers.orders import Cell, Operation
from tests.unit.routing.catalogue_factory import (
    MODEL,
    make_account,
    make_catalogue,
    make_offer,
    make_request,
    make_uniform_prices,
)

CELL = Cell(Operation.GENERATE, "1k", "high")
QUERY = RoutingQuery(request=make_request(quality="high"))


def make_signals_entry(seller: str, **changes: object) -> CellSignalsEntry:
    cell_fields = {"operation": CELL.operation, "resolution": CELL.resolution, "quality": CELL.quality}
    return CellSignalsEntry(seller=seller, model=MODEL, **{**cell_fields, **changes})  # type: ignore[arg-type]


def plan_with_remote_signals(response: SignalsResponse, configured: Catalogue) -> Plan:
    return make_plan(response.apply_to(configured), QUERY, response.signals)


def make_two_seller_catalogue(**keys: str | None) -> Catalogue:
    sellers = {"one": "a key", "two": "a key", **keys}
    return make_catalogue(
        [make_offer(name, make_uniform_prices(10_000), account=make_account(key)) for name, key in sellers.items()]
    )


def test_remote_expected_latency_is_used_but_not_as_measurement() -> None:
    response = SignalsResponse(
        "", (make_signals_entry("one", p50=3.0, p90=4.0, measured=False), make_signals_entry("two", p50=1.0, p90=2.0))
    )
    ranked = {
        entry.fit.offer.seller.name: entry
        for entry in plan_with_remote_signals(response, make_two_seller_catalogue()).ranked
    }
    assert {name: entry.expected_seconds for name, entry in ranked.items()} == {"one": 3.0, "two": 1.0}
    assert (ranked["one"].signals.p50, ranked["two"].signals.p50) == (None, 1.0)


def test_remote_keys_decide_which_sellers_are_ranked() -> None:
    response = SignalsResponse("", (make_signals_entry("one", has_key=False), make_signals_entry("two")))
    result = plan_with_remote_signals(response, make_two_seller_catalogue(two=None))
    assert [entry.fit.offer.seller.name for entry in result.ranked] == ["two"]
    assert [entry.seller for entry in result.excluded] == ["one"]


def test_sellers_unknown_to_remote_stay_as_configured() -> None:
    result = plan_with_remote_signals(SignalsResponse("", ()), make_two_seller_catalogue(two=None))
    assert [entry.fit.offer.seller.name for entry in result.ranked] == ["one"]


def test_response_with_missing_fields_is_accepted() -> None:
    response = SignalsResponse(
        "", (make_signals_entry("one", p50=None, p90=None, measured=False), make_signals_entry("two", p50=5.0, p90=6.0))
    )
    assert sorted(
        entry.expected_seconds for entry in plan_with_remote_signals(response, make_two_seller_catalogue()).ranked
    ) == [5.0, 10.0]
