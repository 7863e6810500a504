"""A cell that delivers other images than ordered is ranked last until a probe order succeeds."""

import pytest

from gateway.config.policy_schema import PolicyConfig
from gateway.health.health_tracker import HealthKey, HealthTracker
from gateway.routing.plan import Plan, RoutingQuery, make_plan
from providers.faults import FaultKind
from providers.orders import Cell, Operation
from tests.unit.health.health_samples import CATALOGUE, START, make_failure, make_success, send_snapshot
from tests.unit.routing.catalogue_factory import MODEL, make_catalogue, make_request

# The cell of a plain request, and the two sellers that rank after the first.
CELL = Cell(Operation.GENERATE, "1k", "high")
RUNS = HealthKey("runs", "runflow", MODEL, CELL)
RUN = HealthKey("run", "runflow", MODEL, CELL)
OPEN_TIMES = [300, 600, 1_200, 2_400, 4_800, 9_600, 19_200, 21_600, 21_600]
DAY_SECONDS = 86_400.0
CHEAPEST = PolicyConfig(rank="cost")


def record_deliveries(
    health: HealthTracker, *deliveries: bool, key: HealthKey = RUNS, now: float = START
) -> HealthTracker:
    for is_as_ordered in deliveries:
        health.record(key, make_success(is_as_ordered=is_as_ordered), now)
    return health


def make_unfaithful_tracker(times: int = 12) -> HealthTracker:
    return record_deliveries(HealthTracker(), *[False] * times)


def plan_with_health(
    health: HealthTracker, now: float = START, policy: PolicyConfig = CHEAPEST, draw: float = 0.0
) -> Plan:
    catalogue = make_catalogue(tuple(CATALOGUE.iter_offers()), {"it": policy})
    return make_plan(
        catalogue,
        RoutingQuery(request=make_request()),
        health.get_catalogue_signals(CATALOGUE, now, lambda _: 0.0),
        draw,
    )


def list_sellers(plan: Plan) -> list[str]:
    return [entry.fit.offer.seller.name for entry in plan.ranked]


def is_faithful(health: HealthTracker, now: float = START) -> bool:
    return health.get_signals(RUNS, now).faithful


# --- what opens it


@pytest.mark.parametrize(
    ("deliveries", "expected"),
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
def test_cell_becomes_unfaithful_after_enough_misses(deliveries: list[bool], expected: bool) -> None:
    assert is_faithful(record_deliveries(HealthTracker(), *deliveries)) is expected


def test_unfaithful_cell_ranks_last_and_plan_says_why() -> None:
    plan = plan_with_health(make_unfaithful_tracker())
    assert list_sellers(plan) == ["run", "runapi", "runs"]
    assert plan.excluded == ()
    assert "delivered as ordered 0 of 12, ranked after sellers that deliver as ordered" in plan.ranked[-1].reasons


@pytest.mark.parametrize(
    "policy",
    [
        PolicyConfig(rank="latency"),
        PolicyConfig(rank="listed", sellers=("runs", "run", "runapi")),
        PolicyConfig(rank="weighted", weights={"runs": 1_000_000, "run": 1, "runapi": 1}),
    ],
    ids=lambda policy: policy.rank,
)
def test_every_rank_puts_unfaithful_cell_last(policy: PolicyConfig) -> None:
    for draw in (0.0, 0.5, 0.999):
        assert list_sellers(plan_with_health(make_unfaithful_tracker(), policy=policy, draw=draw))[-1] == "runs"


def test_unhealthy_cell_ranks_after_unfaithful_one() -> None:
    health = make_unfaithful_tracker()
    health.record(HealthKey("runapi", "runapi", MODEL, CELL), make_failure(FaultKind.INVALID_KEY), START)
    assert list_sellers(plan_with_health(health)) == ["run", "runs", "runapi"]


def test_if_all_are_unfaithful_ranking_is_unchanged() -> None:
    health = make_unfaithful_tracker()
    for seller, account in (("run", "runflow"), ("runapi", "runapi")):
        record_deliveries(health, *[False] * 6, key=HealthKey(seller, account, MODEL, CELL))
    assert list_sellers(plan_with_health(health)) == ["runs", "run", "runapi"]


def test_exact_policy_excludes_unfaithful_cell() -> None:
    exact = PolicyConfig(rank="cost", fidelity="exact")
    [excluded] = plan_with_health(make_unfaithful_tracker(), policy=exact).excluded
    assert (excluded.seller, excluded.reasons) == ("runs", ("not exact: delivered as ordered 0 of 12",))
    one_miss = record_deliveries(HealthTracker(), True, True, True, True, False)
    assert list_sellers(plan_with_health(one_miss, policy=exact))[0] == "runs"


# --- what closes it


def test_one_probe_is_due_after_open_time_and_its_success_restores_cell() -> None:
    health, due = make_unfaithful_tracker(), START + OPEN_TIMES[0]
    assert list_sellers(plan_with_health(health, due - 1))[-1] == "runs"
    plan = plan_with_health(health, due)
    assert list_sellers(plan)[0] == "runs"
    assert "delivered as ordered 0 of 12; a probe order is due" in plan.ranked[0].reasons
    assert health.acquire_permit(RUNS, due)
    assert list_sellers(plan_with_health(health, due + 1))[-1] == "runs", "one order is the probe"
    assert health.acquire_permit(RUNS, due + 1) is None
    health.record(RUNS, make_success(seconds=20, is_as_ordered=True), due + 20)
    assert list_sellers(plan_with_health(health, due + 20))[0] == "runs"
    assert all(health.acquire_permit(RUNS, due + 20) for _ in range(3))


def test_each_failed_probe_doubles_open_time() -> None:
    health, now = make_unfaithful_tracker(), START
    for open_seconds in OPEN_TIMES:
        assert not is_faithful(health, now + open_seconds - 1)
        now += open_seconds
        assert is_faithful(health, now)
        assert health.acquire_permit(RUNS, now)
        health.record(RUNS, make_success(is_as_ordered=False), now + 2)
        assert not is_faithful(health, now + 2)
        now += 2


def test_successful_probe_forgets_earlier_deliveries() -> None:
    health = make_unfaithful_tracker()
    health.record(RUNS, make_success(is_as_ordered=True), START + OPEN_TIMES[0] + 2)
    record_deliveries(health, False, False, now=START + OPEN_TIMES[0] + 10)
    assert is_faithful(health, START + OPEN_TIMES[0] + 10)
    record_deliveries(health, True, False, now=START + OPEN_TIMES[0] + 11)
    assert not is_faithful(health, START + OPEN_TIMES[0] + 11)


def test_inconclusive_probe_leaves_next_order_as_probe() -> None:
    for outcome in (
        make_failure(FaultKind.CONTENT_REFUSED, seconds=2),
        make_failure(FaultKind.ORDER_FAILED, seconds=2),
        make_success(),
    ):
        health, due = make_unfaithful_tracker(), START + OPEN_TIMES[0]
        assert health.acquire_permit(RUNS, due)
        assert not is_faithful(health, due)
        health.record(RUNS, outcome, due + 2)
        assert is_faithful(health, due + 2)


def test_released_permit_leaves_next_order_as_probe() -> None:
    health, due = make_unfaithful_tracker(), START + OPEN_TIMES[0]
    permit = health.acquire_permit(RUNS, due)
    assert permit is not None
    health.release_permit(permit)
    assert is_faithful(health, due)


def test_unfaithful_cell_still_accepts_orders() -> None:
    health = make_unfaithful_tracker()
    assert all(health.acquire_permit(RUNS, START + 1) for _ in range(3))
    assert not is_faithful(health, START + OPEN_TIMES[0] - 1)
    record_deliveries(health, True, now=START + 30)
    assert is_faithful(health, START + 30), "and their deliveries count"


def test_order_sent_before_cell_became_unfaithful_does_not_restore_it() -> None:
    health = make_unfaithful_tracker()
    health.record(RUNS, make_success(seconds=60, is_as_ordered=True), START + 30)
    assert not is_faithful(health, START + 30)


def test_deliveries_older_than_a_day_are_forgotten() -> None:
    health = record_deliveries(HealthTracker(), False, False, False, False)
    record_deliveries(health, False, now=START + DAY_SECONDS + 60)
    signals = health.get_signals(RUNS, START + DAY_SECONDS + 60)
    assert (signals.faithful, signals.conformance, signals.deliveries) == (True, None, 0)
    health = record_deliveries(HealthTracker(), False, False, False, False)
    record_deliveries(health, False, now=START + DAY_SECONDS - 60)
    assert not is_faithful(health, START + DAY_SECONDS - 60)


# --- replicas


def test_replicas_judge_by_deliveries_of_all() -> None:
    first, second = HealthTracker("one"), HealthTracker("two")
    record_deliveries(first, False, False, False)
    record_deliveries(second, False)
    send_snapshot(first, second, 1, "one")
    assert is_faithful(second, START + 1)
    record_deliveries(second, False, now=START + 2)
    assert not is_faithful(second, START + 2)
    send_snapshot(second, first, 3, "two")
    assert not is_faithful(first, START + 3)
    assert list_sellers(plan_with_health(first, START + 3))[-1] == "runs"


def test_successful_probe_of_other_replica_restores_cell() -> None:
    local, remote, due = make_unfaithful_tracker(), HealthTracker("there"), START + OPEN_TIMES[0]
    send_snapshot(local, remote, 1, "here")
    assert remote.acquire_permit(RUNS, due + 5)
    remote.record(RUNS, make_success(seconds=5, is_as_ordered=True), due + 10)
    send_snapshot(remote, local, due + 11 - START, "there")
    assert is_faithful(local, due + 11)
    record_deliveries(local, False, now=due + 20)
    assert is_faithful(local, due + 20), "deliveries before the probe are forgotten here, too"


def test_replica_without_own_data_follows_others() -> None:
    receiver = HealthTracker("a")
    send_snapshot(make_unfaithful_tracker(), receiver, 1)
    assert list_sellers(plan_with_health(receiver, START + 1)) == ["run", "runapi", "runs"]
    assert "delivered as ordered 0 of 12, ranked after sellers" in str(
        plan_with_health(receiver, START + 1).ranked[-1].reasons
    )
