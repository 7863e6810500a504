"""From a decision record and its configuration, the plan is made again, to the byte."""

import msgspec
import pytest

from gateway.catalogue import Catalogue
from gateway.routing.decision_record import (
    DecisionRecord,
    PlannedRequest,
    decode_decision_record,
    encode_decision_record,
    make_decision_record,
    replay_plan,
)
from gateway.routing.plan import Plan, RoutingQuery, make_plan
from gateway.routing.plan_json import plan_to_json
from gateway.routing.routing_request import RequestedParams
from gateway.routing.signals import UNKNOWN_SIGNALS, CellSignals
from providers.orders import Cell
from tests.harness.image_model import ALL_CELLS
from tests.unit.routing.catalogue_factory import (
    MODEL,
    make_account,
    make_catalogue,
    make_offer,
    make_request,
    make_uniform_prices,
)
from tests.unit.routing.decision_generator import (
    GeneratedRequest,
    generate_requests,
    load_catalogue_from_files,
    make_large_catalogue,
)

DECIDED_AT = 1_795_000_000.125
REQUESTS_PER_CONFIG, THOROUGH_REQUESTS_PER_CONFIG = 334, 3_334
CATALOGUES = {
    "files": load_catalogue_from_files(),
    "large": make_large_catalogue(seed=1),
    "other": make_large_catalogue(seed=2),
}
ALL_CATALOGUES = pytest.mark.parametrize("catalogue", CATALOGUES.values(), ids=CATALOGUES)


def encode_plan(catalogue: Catalogue, plan: Plan) -> bytes:
    return msgspec.json.encode(plan_to_json(catalogue, plan))


def record_and_decode(catalogue: Catalogue, planned: PlannedRequest) -> DecisionRecord:
    return decode_decision_record(encode_decision_record(make_decision_record(catalogue, planned, DECIDED_AT)))


def check_replay(generated: GeneratedRequest) -> None:
    catalogue, planned = generated.catalogue, generated.planned
    encoded = encode_decision_record(make_decision_record(catalogue, planned, DECIDED_AT))
    record = decode_decision_record(encoded)
    replayed = replay_plan(record, catalogue)
    assert encode_plan(catalogue, replayed) == encode_plan(catalogue, planned.plan)
    assert [offer.quote for offer in replayed.ranked] == [offer.quote for offer in planned.plan.ranked]
    recorded_again = msgspec.structs.replace(planned, query=record.query, plan=replayed)
    assert encode_decision_record(make_decision_record(catalogue, recorded_again, DECIDED_AT)) == encoded
    check_every_seller_is_recorded(generated, record)


def check_every_seller_is_recorded(generated: GeneratedRequest, record: DecisionRecord) -> None:
    request, signals = record.query.request, generated.planned.signals
    cell = Cell(request.operation, request.target.resolution, request.quality)
    recorded = {entry.seller: entry.signals for entry in (*record.ranked, *record.excluded)}
    assert recorded == {
        offer.seller.name: signals.get((offer.seller.name, offer.model, cell), UNKNOWN_SIGNALS)
        for offer in generated.catalogue.offers[request.model]
    }


@ALL_CATALOGUES
def test_plan_is_made_again_from_its_record(catalogue: Catalogue) -> None:
    for generated in generate_requests(catalogue, seed=11, count=REQUESTS_PER_CONFIG):
        check_replay(generated)


@pytest.mark.thorough
@ALL_CATALOGUES
def test_ten_thousand_plans_are_made_again_from_their_records(catalogue: Catalogue) -> None:
    for generated in generate_requests(catalogue, seed=12, count=THOROUGH_REQUESTS_PER_CONFIG):
        check_replay(generated)


def test_generated_requests_reach_every_rule_rank_and_exclusion() -> None:
    rules, policies, reasons = set(), set(), set()
    for catalogue in CATALOGUES.values():
        for generated in generate_requests(catalogue, seed=11, count=REQUESTS_PER_CONFIG):
            plan = generated.planned.plan
            rules.add(plan.rule_number)
            policies.add(plan.policy)
            reasons |= {reason.split()[0] for offer in plan.excluded for reason in offer.reasons}
    assert rules == {None, 0, 1, 2, 3, 4}
    assert policies == {"cheapest", "fast", "steady", "split", "exact", "punctual", "narrow"}
    assert reasons >= {"account", "cannot", "no", "quality", "does", "supports", "excluded", "not", "p90"}


def test_another_signal_or_draw_makes_another_plan() -> None:
    """A record without one of them could not be replayed."""
    changed = {"signals": 0, "draw": 0}
    catalogue = CATALOGUES["large"]
    for generated in generate_requests(catalogue, seed=11, count=REQUESTS_PER_CONFIG):
        planned = generated.planned
        before = encode_plan(catalogue, planned.plan)
        changed["signals"] += encode_plan(catalogue, make_plan(catalogue, planned.query, {}, planned.draw)) != before
        changed["draw"] += encode_plan(catalogue, make_plan(catalogue, planned.query, planned.signals, 0.0)) != before
    assert min(changed.values()) > 5, changed


def plan_sample_request(catalogue: Catalogue, **changes: object) -> PlannedRequest:
    query = RoutingQuery(request=make_request(**changes), team="everyone")
    return PlannedRequest(query=query, signals={}, draw=0.25, plan=make_plan(catalogue, query, {}, 0.25))


def test_record_has_only_metadata_that_rules_match_on() -> None:
    catalogue = CATALOGUES["large"]
    metadata = {"tier": "bronze", "note": "a lighthouse at dusk", "customer": "Ada"}
    record = record_and_decode(catalogue, plan_sample_request(catalogue, metadata=metadata))
    assert record.query.request.metadata == {"tier": "bronze"}
    bare = record_and_decode(catalogue, plan_sample_request(catalogue, metadata={"note": "x"}))
    assert bare.query.request.metadata == {}


def test_record_names_what_was_asked_and_what_was_used() -> None:
    catalogue = CATALOGUES["large"]
    planned = plan_sample_request(catalogue, metadata={"tier": "gold"}, prompt_bytes=312, has_explicit_quality=True)
    planned = msgspec.structs.replace(planned, requested=RequestedParams(quality="hd"), largest_input_edge=1_536)
    record = record_and_decode(catalogue, planned)
    assert (record.query.team, record.query.policy, record.policy) == ("everyone", None, "fast")
    assert record.rule == "rule 1: tier=gold"
    assert (record.config_hash, record.draw, record.decided_at) == (catalogue.hash, 0.25, DECIDED_AT)
    assert (record.requested.quality, record.largest_input_edge) == ("hd", 1_536)
    assert record.query.request.has_explicit_quality
    best, planned_best = record.ranked[0], planned.plan.ranked[0]
    assert (best.seller, best.quote, best.ceiling, best.seconds) == (
        planned_best.candidate.seller,
        planned_best.quote.total,
        planned_best.quote.ceiling,
        planned_best.expected_seconds,
    )


def test_misfit_is_recorded_with_its_signals() -> None:
    unusable = make_offer("unusable", make_uniform_prices(1), account=make_account(None))
    catalogue = make_catalogue([make_offer("usable", make_uniform_prices(2)), unusable])
    signals = {("unusable", MODEL, cell): CellSignals(healthy=False, p50=3.5) for cell in ALL_CELLS}
    query = RoutingQuery(request=make_request())
    plan = make_plan(catalogue, query, signals)
    record = record_and_decode(catalogue, PlannedRequest(query=query, signals=signals, draw=0.0, plan=plan))
    (excluded,) = record.excluded
    assert (excluded.seller, excluded.reasons) == ("unusable", ("account a has no API key",))
    assert excluded.signals == CellSignals(healthy=False, p50=3.5)


@pytest.mark.parametrize(("seller_count", "max_bytes"), [(3, 1_100), (12, 3_000)])
def test_record_with_all_signals_is_small(seller_count: int, max_bytes: int) -> None:
    offers = [make_offer(f"seller-{number}", make_uniform_prices(66_600 + number)) for number in range(seller_count)]
    catalogue = make_catalogue(offers)
    measured = CellSignals(p50=31 / 3, p90=100 / 3, load=1 / 3, conformance=0.98, deliveries=50)
    signals = {(offer.seller.name, MODEL, cell): measured for offer in offers for cell in ALL_CELLS}
    query = RoutingQuery(request=make_request(prompt_bytes=800), team="everyone")
    plan = make_plan(catalogue, query, signals)
    planned = PlannedRequest(query=query, signals=signals, draw=0.123456789, plan=plan)
    assert len(encode_decision_record(make_decision_record(catalogue, planned, DECIDED_AT))) <= max_bytes
