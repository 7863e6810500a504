"""What a plan costs: µs of CPU for one over twenty offers, for the shipped policies' ranks, with and without signals.

`make bench` runs it. Figures are of process time, best and median of several rounds, in one run on one machine.
"""

import statistics
import time
from collections.abc import Callable

from gateway.catalogue import CELLS, Account, Catalogue, Model, Offer, Price, Seller
from gateway.config.blocks import Expected, PoliciesFile, PolicyConfig, Sizing, TeamConfig
from gateway.config.gateway_blocks import ReloadConfig
from gateway.config.values import Percent, Secret, Usd
from gateway.routing.plan import Question, plan
from gateway.routing.signals import CellSignals
from providers import ADAPTERS
from providers.orders import Format, ImageRequest, Operation, Quality
from providers.sizes import Resolution, target_of_shape

OFFERS = 20
ROUNDS = 9
PLANS_PER_ROUND = 2_000
MODEL = "gpt-image-2"
AIM_US = 150


def catalogue() -> Catalogue:
    account = Account("a", "https://a.example", Secret("s"), False, (), False)
    offers = tuple(_offer(account, position) for position in range(OFFERS))
    names = tuple(offer.seller.name for offer in offers)
    policies = {
        "cost": PolicyConfig(rank="cost"),
        "cost within 5%": PolicyConfig(rank="cost", within=Percent(500)),
        "latency": PolicyConfig(rank="latency"),
        "listed": PolicyConfig(rank="listed", sellers=names[::-1]),
        "narrowed": PolicyConfig(
            rank="cost", max_price=Usd(70_000), max_cost=Usd(1_000_000), max_seconds=61.0, ignore=names[:3]
        ),
        "weighted": PolicyConfig(rank="weighted", weights={name: 1.0 + place for place, name in enumerate(names)}),
    }
    return Catalogue(
        hash="0123456789ab",
        models={MODEL: Model(MODEL, 1024, 1024, Quality.HIGH, Format.PNG, 10)},
        aliases={},
        accounts={"a": account},
        sellers={offer.seller.name: offer.seller for offer in offers},
        offers={MODEL: offers},
        policies=PoliciesFile(policies=policies, default="cost"),
        teams={"everyone": TeamConfig(policies=tuple(policies))},
        reload=ReloadConfig(),
    )


def _offer(account: Account, position: int) -> Offer:
    price = 60_000 + 700 * (position * 7 % OFFERS)
    return Offer(
        seller=Seller(f"seller-{position}", account, ADAPTERS["runflow_runs"]),
        model=MODEL,
        their_model="their/model",
        images_per_order=4,
        selectable=frozenset(Quality),
        assumes=None,
        sizings=dict.fromkeys(Operation, Sizing(pixels="exact")),
        formats=frozenset(Format),
        unverified=None,
        mask=True,
        inputs=16,
        prices={cell: Price(price, price, "bench", "2026-01-01") for cell in CELLS},
        seconds=dict.fromkeys(Quality, Expected(p50=10.0 + position, p90=60.0)),
        position=position,
    )


def question(policy: str, n: int = 3) -> Question:
    request = ImageRequest(
        operation=Operation.GENERATE,
        model=MODEL,
        prompt="",
        n=n,
        target=target_of_shape("16:9", Resolution.TWO_K),
        quality=Quality.HIGH,
        output_format=Format.PNG,
    )
    return Question(request=request, team="everyone", policy=policy)


def cpu_us(work: Callable[[], object]) -> tuple[float, float]:
    """Best and median µs of CPU for one call."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(PLANS_PER_ROUND):
            work()
        rounds.append((time.process_time() - began) / PLANS_PER_ROUND * 1e6)
    return min(rounds), statistics.median(rounds)


def main() -> None:
    made = catalogue()
    signals = {
        (offer.seller.name, MODEL, cell): CellSignals(p50=9.0, p90=30.0, load=0.5, conformance=0.99)
        for offer in made.all_offers()
        for cell in CELLS
    }
    worst = 0.0
    print(f"one plan over {OFFERS} offers, µs of CPU (best, median of {ROUNDS} rounds of {PLANS_PER_ROUND:,})")
    for policy in made.policies.policies:
        for label, known in (("no signals", {}), ("signals", signals)):
            best, median = cpu_us(lambda policy=policy, known=known: plan(made, question(policy), known, 0.4))  # type: ignore[misc]
            worst = max(worst, median)
            print(f"  {policy:16} {label:12} {best:6.1f} {median:6.1f}")
    print(f"worst median {worst:.1f} µs; the aim is {AIM_US} at most")


if __name__ == "__main__":
    main()
