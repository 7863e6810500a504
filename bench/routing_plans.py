"""Measures a routing plan and its decision record: µs of CPU over twenty offers, for each rank, with and without
signals, and the bytes of a record.

`make bench` runs it. Figures are process time, best and median of several rounds, in one run on one machine.
"""

import statistics
import time
from collections.abc import Callable

from gateway.catalogue import Catalogue, Offer, Price, Seller, SellerAccount
from gateway.config.offer_schema import ExpectedLatency, SizeOptions
from gateway.config.policy_schema import PolicyConfig
from gateway.config.schema import PoliciesFile, ReloadConfig, TeamConfig
from gateway.config.value_types import Percent, Secret, Usd
from gateway.routing.decision_record import PlannedRequest, encode_decision_record, make_decision_record
from gateway.routing.plan import RoutingQuery, make_plan
from gateway.routing.routing_request import RoutingRequest
from gateway.routing.signals import CellSignals, Signals
from providers import ADAPTERS
from providers.orders import Format, Operation
from tests.harness.image_model import ALL_CELLS, FORMATS, QUALITIES, make_model, target_from_ratio

OFFERS = 20
ROUNDS = 9
PLANS_PER_ROUND = 2_000
MODEL = "gpt-image-2"
MAX_MICROSECONDS = 150


def build_catalogue() -> Catalogue:
    account = SellerAccount("a", "https://a.example", Secret("s"), False, (), False)
    offers = tuple(_build_offer(account, position) for position in range(OFFERS))
    names = tuple(offer.seller.name for offer in offers)
    policies = {
        "cost": PolicyConfig(rank="cost"),
        "cost within 5%": PolicyConfig(rank="cost", within=Percent(500)),
        "latency": PolicyConfig(rank="latency"),
        "listed": PolicyConfig(rank="listed", sellers=names[::-1]),
        "narrowed": PolicyConfig(
            rank="cost", max_price=Usd(70_000), max_cost=Usd(1_000_000), max_seconds=61.0, ignore=names[:3]
        ),
        "weighted": PolicyConfig(rank="weighted", weights={name: 1.0 + index for index, name in enumerate(names)}),
    }
    return Catalogue(
        hash="0123456789ab",
        models={MODEL: make_model(MODEL)},
        aliases={},
        accounts={"a": account},
        sellers={offer.seller.name: offer.seller for offer in offers},
        offers={MODEL: offers},
        policies=PoliciesFile(policies=policies, default="cost"),
        teams={"everyone": TeamConfig(policies=tuple(policies))},
        reload=ReloadConfig(),
    )


def _build_offer(account: SellerAccount, position: int) -> Offer:
    price = 60_000 + 700 * (position * 7 % OFFERS)
    return Offer(
        seller=Seller(f"seller-{position}", account, ADAPTERS["runflow_runs"]),
        model=MODEL,
        remote_model="seller/model",
        images_per_order=4,
        selectable_qualities=frozenset(QUALITIES),
        assumed_quality=None,
        size_options=dict.fromkeys(Operation, SizeOptions(pixels="exact")),
        formats=frozenset(FORMATS),
        unverified_note=None,
        supports_mask=True,
        max_inputs=16,
        prices={cell: Price(price, price, "bench", "2026-01-01") for cell in ALL_CELLS},
        expected_latency=dict.fromkeys(QUALITIES, ExpectedLatency(p50=10.0 + position, p90=60.0)),
        position=position,
    )


def build_query(policy: str, n: int = 3) -> RoutingQuery:
    request = RoutingRequest(
        operation=Operation.GENERATE,
        model=MODEL,
        n=n,
        target=target_from_ratio("16:9", "2k"),
        quality="high",
        output_format=Format.PNG,
    )
    return RoutingQuery(request=request, team="everyone", policy=policy)


def measure_cpu_us(work: Callable[[], object]) -> tuple[float, float]:
    """Returns the best and the median µs of CPU of one call."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        started_at = time.process_time()
        for _ in range(PLANS_PER_ROUND):
            work()
        rounds.append((time.process_time() - started_at) / PLANS_PER_ROUND * 1e6)
    return min(rounds), statistics.median(rounds)


def main() -> None:
    catalogue = build_catalogue()
    signals = {
        (offer.seller.name, MODEL, cell): CellSignals(p50=9.0, p90=30.0, load=0.5, conformance=0.99)
        for offer in catalogue.iter_offers()
        for cell in ALL_CELLS
    }
    worst = 0.0
    print(f"one plan over {OFFERS} offers, µs of CPU (best, median of {ROUNDS} rounds of {PLANS_PER_ROUND:,})")
    for policy in catalogue.policies.policies:
        for label, known_signals in (("no signals", {}), ("signals", signals)):
            best, median = measure_cpu_us(
                lambda policy=policy, known_signals=known_signals: make_plan(
                    catalogue, build_query(policy), known_signals, 0.4
                )
            )  # type: ignore[misc]
            worst = max(worst, median)
            print(f"  {policy:16} {label:12} {best:6.1f} {median:6.1f}")
    print(f"worst median {worst:.1f} µs; target: at most {MAX_MICROSECONDS} µs")
    measure_record(catalogue, signals)


def measure_record(catalogue: Catalogue, signals: Signals) -> None:
    query = build_query("cost")
    planned = PlannedRequest(query=query, signals=signals, draw=0.4, plan=make_plan(catalogue, query, signals))

    def encode_record() -> bytes:
        return encode_decision_record(make_decision_record(catalogue, planned, 1_795_000_000.125))

    best, median = measure_cpu_us(encode_record)
    print(f"  decision record with all signals: {best:.1f} {median:.1f} µs, {len(encode_record()):,} bytes")


if __name__ == "__main__":
    main()
