"""A cell whose pictures are not what is ordered comes after those that deliver it, until a trial order succeeds."""

import pytest

from gateway.catalogue import Cell
from gateway.config.blocks import PolicyConfig
from gateway.routing.plan import Plan, Question, plan
from gateway.upstream.health import Health, Where
from providers.faults import FaultKind
from providers.orders import Operation, Quality
from providers.sizes import Resolution
from tests.unit.routing.catalogues import MODEL, catalogue, request
from tests.unit.upstream.patients import CATALOGUE, START, WALL, fault, success

# The cell that a plain request is ordered from, and the two sellers behind the one that ranks first.
CELL = Cell(Operation.GENERATE, Resolution.ONE_K, Quality.HIGH)
RUNS = Where("runs", "runflow", MODEL, CELL)
RUN = Where("run", "runflow", MODEL, CELL)
PAUSES = [300, 600, 1_200, 2_400, 4_800, 9_600, 19_200, 21_600, 21_600]
DAY = 86_400.0
CHEAPEST = PolicyConfig(rank="cost")


def deliver(health: Health, *as_ordered: bool, where: Where = RUNS, now: float = START) -> Health:
    for one in as_ordered:
        health.record(where, success(as_ordered=one), now)
    return health


def downgrading(times: int = 12) -> Health:
    return deliver(Health(), *[False] * times)


def planned(health: Health, now: float = START, policy: PolicyConfig = CHEAPEST, draw: float = 0.0) -> Plan:
    made = catalogue(tuple(CATALOGUE.all_offers()), {"it": policy})
    return plan(made, Question(request=request()), health.signals(CATALOGUE, now, lambda _: 0.0), draw)


def sellers(made: Plan) -> list[str]:
    return [one.fit.offer.seller.name for one in made.ranked]


def is_faithful(health: Health, now: float = START) -> bool:
    return health.known(RUNS, now).faithful


def tell(teller: Health, hearer: Health, now: float = START, name: str = "teller") -> None:
    hearer.merge(name, teller.snapshot(now, WALL + now), now, WALL + now)


# --- how much it takes


@pytest.mark.parametrize(
    ("as_ordered", "expected"),
    [
        ([False] * 4, True),
        ([False] * 5, False),
        ([True] * 9 + [False], True),
        ([True] * 4 + [False], True),
        ([True] * 3 + [False] * 2, True),
        ([True] * 2 + [False] * 3, False),
        ([True] * 27 + [False] * 3, True),
        ([True] * 26 + [False] * 3, False),
        ([True] * 100 + [False] * 5, True),
        ([True] * 100 + [False] * 6, False),
    ],
)
def test_a_cell_falls_behind_for_enough_deliveries_that_are_not_as_ordered(
    as_ordered: list[bool], expected: bool
) -> None:
    assert is_faithful(deliver(Health(), *as_ordered)) is expected


def test_a_cell_that_falls_behind_comes_after_the_others_and_the_plan_says_why() -> None:
    made = planned(downgrading())
    assert sellers(made) == ["run", "runapi", "runs"]
    assert made.excluded == ()
    assert "delivered as ordered 0 of 12, so after those that deliver what is ordered" in made.ranked[-1].reasons


@pytest.mark.parametrize(
    "policy",
    [
        PolicyConfig(rank="latency"),
        PolicyConfig(rank="listed", sellers=("runs", "run", "runapi")),
        PolicyConfig(rank="weighted", weights={"runs": 1_000_000, "run": 1, "runapi": 1}),
    ],
    ids=lambda policy: policy.rank,
)
def test_every_rank_obeys(policy: PolicyConfig) -> None:
    for draw in (0.0, 0.5, 0.999):
        assert sellers(planned(downgrading(), policy=policy, draw=draw))[-1] == "runs"


def test_a_cell_that_is_down_comes_after_one_that_delivers_something_else() -> None:
    health = downgrading()
    health.record(Where("runapi", "runapi", MODEL, CELL), fault(FaultKind.BAD_KEY), START)
    assert sellers(planned(health)) == ["run", "runs", "runapi"]


def test_where_all_deliver_something_else_they_are_ranked_as_usual() -> None:
    health = downgrading()
    for seller, account in (("run", "runflow"), ("runapi", "runapi")):
        deliver(health, *[False] * 6, where=Where(seller, account, MODEL, CELL))
    assert sellers(planned(health)) == ["runs", "run", "runapi"]


def test_whoever_wants_exactly_what_is_ordered_does_not_get_it_there() -> None:
    exact = PolicyConfig(rank="cost", fidelity="exact")
    [out] = planned(downgrading(), policy=exact).excluded
    assert (out.seller, out.reasons) == ("runs", ("not exact: delivered as ordered 0 of 12",))
    one_odd = deliver(Health(), True, True, True, True, False)
    assert sellers(planned(one_odd, policy=exact))[0] == "runs"


# --- how it comes back


def test_one_trial_order_goes_when_the_pause_is_over_and_its_success_brings_the_cell_back() -> None:
    health, due = downgrading(), START + PAUSES[0]
    assert sellers(planned(health, due - 1))[-1] == "runs"
    made = planned(health, due)
    assert sellers(made)[0] == "runs"
    assert "delivered as ordered 0 of 12; a trial order is due" in made.ranked[0].reasons
    assert health.may_try(RUNS, due)
    assert sellers(planned(health, due + 1))[-1] == "runs", "one order is enough of a trial"
    assert health.may_try(RUNS, due + 1) is None
    health.record(RUNS, success(seconds=20, as_ordered=True), due + 20)
    assert sellers(planned(health, due + 20))[0] == "runs"
    assert all(health.may_try(RUNS, due + 20) for _ in range(3))


def test_each_trial_that_fails_makes_the_next_pause_twice_as_long() -> None:
    health, now = downgrading(), START
    for pause in PAUSES:
        assert not is_faithful(health, now + pause - 1)
        now += pause
        assert is_faithful(health, now)
        assert health.may_try(RUNS, now)
        health.record(RUNS, success(as_ordered=False), now + 2)
        assert not is_faithful(health, now + 2)
        now += 2


def test_what_was_delivered_before_the_trial_is_forgotten_when_it_succeeds() -> None:
    health = downgrading()
    health.record(RUNS, success(as_ordered=True), START + PAUSES[0] + 2)
    deliver(health, False, False, now=START + PAUSES[0] + 10)
    assert is_faithful(health, START + PAUSES[0] + 10)
    deliver(health, True, False, now=START + PAUSES[0] + 11)
    assert not is_faithful(health, START + PAUSES[0] + 11)


def test_a_trial_that_says_nothing_leaves_the_next_order_to_be_one() -> None:
    for outcome in (fault(FaultKind.CONTENT_REFUSED, seconds=2), fault(FaultKind.FAILED, seconds=2), success()):
        health, due = downgrading(), START + PAUSES[0]
        assert health.may_try(RUNS, due)
        assert not is_faithful(health, due)
        health.record(RUNS, outcome, due + 2)
        assert is_faithful(health, due + 2)


def test_a_trial_that_is_withdrawn_is_left_to_the_next_order() -> None:
    health, due = downgrading(), START + PAUSES[0]
    trial = health.may_try(RUNS, due)
    assert trial is not None
    health.withdraw(trial)
    assert is_faithful(health, due)


def test_orders_may_still_be_placed_there_while_nobody_better_is_left() -> None:
    health = downgrading()
    assert all(health.may_try(RUNS, START + 1) for _ in range(3))
    assert not is_faithful(health, START + PAUSES[0] - 1)
    deliver(health, True, now=START + 30)
    assert is_faithful(health, START + 30), "and what they bring counts"


def test_an_order_that_was_sent_before_the_cell_fell_behind_does_not_bring_it_back() -> None:
    health = downgrading()
    health.record(RUNS, success(seconds=60, as_ordered=True), START + 30)
    assert not is_faithful(health, START + 30)


def test_deliveries_of_more_than_a_day_ago_say_nothing() -> None:
    health = deliver(Health(), False, False, False, False)
    deliver(health, False, now=START + DAY + 60)
    known = health.known(RUNS, START + DAY + 60)
    assert (known.faithful, known.conformance, known.deliveries) == (True, None, 0)
    health = deliver(Health(), False, False, False, False)
    deliver(health, False, now=START + DAY - 60)
    assert not is_faithful(health, START + DAY - 60)


# --- among replicas


def test_replicas_judge_by_what_all_of_them_got() -> None:
    one, two = Health("one"), Health("two")
    deliver(one, False, False, False)
    deliver(two, False)
    tell(one, two, START + 1, "one")
    assert is_faithful(two, START + 1)
    deliver(two, False, now=START + 2)
    assert not is_faithful(two, START + 2)
    tell(two, one, START + 3, "two")
    assert not is_faithful(one, START + 3)
    assert sellers(planned(one, START + 3))[-1] == "runs"


def test_a_trial_that_succeeds_elsewhere_brings_the_cell_back_here() -> None:
    here, there, due = downgrading(), Health("there"), START + PAUSES[0]
    tell(here, there, START + 1, "here")
    assert there.may_try(RUNS, due + 5)
    there.record(RUNS, success(seconds=5, as_ordered=True), due + 10)
    tell(there, here, due + 11, "there")
    assert is_faithful(here, due + 11)
    deliver(here, False, now=due + 20)
    assert is_faithful(here, due + 20), "what came before the trial is forgotten here as well"


def test_a_replica_that_knows_nothing_else_of_the_cell_obeys_too() -> None:
    hearer = Health("a")
    tell(downgrading(), hearer, START + 1)
    assert sellers(planned(hearer, START + 1)) == ["run", "runapi", "runs"]
    assert "delivered as ordered 0 of 12, so after those" in str(planned(hearer, START + 1).ranked[-1].reasons)
