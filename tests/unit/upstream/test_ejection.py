"""What shuts an account or a cell, for how long, and what opens it again."""

from math import inf, nan

import pytest

from gateway.routing.signals import CellSignals
from gateway.upstream.health import Health
from providers.faults import VERDICTS, Blame, FaultKind
from tests.unit.upstream.patients import (
    CATALOGUE,
    ELSEWHERE,
    EVERYWHERE,
    RUN,
    RUNS,
    RUNS_LOW,
    START,
    after,
    failing,
    fault,
    is_healthy,
    success,
)

REFUSALS = [FaultKind.BAD_KEY, FaultKind.NO_CREDIT, FaultKind.FORBIDDEN]
DOWN = [FaultKind.NOT_SENT, FaultKind.UNAVAILABLE, FaultKind.OVERLOADED]
OF_THE_CELL = [kind for kind, verdict in VERDICTS.items() if verdict.blame is Blame.CELL]
OF_NOBODY = [kind for kind, verdict in VERDICTS.items() if verdict.blame is Blame.NOBODY]


def test_every_fault_that_an_account_is_blamed_for_is_provided_for() -> None:
    blamed = {kind for kind, verdict in VERDICTS.items() if verdict.blame is Blame.ACCOUNT}
    assert blamed == {*REFUSALS, *DOWN, FaultKind.RATE_LIMITED}


# --- accounts


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refused_key_shuts_the_account_for_all_its_sellers_and_cells_at_once(kind: FaultKind) -> None:
    health = after(kind)
    healthy = {where: is_healthy(health, where, START + 59.9) for where in EVERYWHERE}
    assert healthy == {RUNS: False, RUNS_LOW: False, RUN: False, ELSEWHERE: True}


@pytest.mark.parametrize("kind", DOWN)
def test_an_account_shuts_after_five_orders_in_a_row_that_nobody_took(kind: FaultKind) -> None:
    assert is_healthy(after(kind, 4), RUN, START)
    health = after(kind, 5)
    assert not is_healthy(health, RUN, START + 29.9)
    assert is_healthy(health, ELSEWHERE, START)
    assert is_healthy(health, RUN, START + 30)


def test_a_success_in_between_begins_the_row_anew() -> None:
    health = after(FaultKind.NOT_SENT, 4)
    health.record(RUN, success(), START)
    for _ in range(4):
        health.record(RUNS, fault(FaultKind.OVERLOADED), START)
    assert is_healthy(health, RUNS, START)


def test_an_order_that_was_taken_and_failed_begins_the_row_anew_too() -> None:
    health = after(FaultKind.NOT_SENT, 4)
    health.record(RUN, fault(FaultKind.FAILED, seconds=5), START)
    health.record(RUN, fault(FaultKind.NOT_SENT), START)
    assert is_healthy(health, RUN, START)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [(None, 10), (30, 30), (0, 1), (-5, 1), (86_400, 300), (inf, 300), (-inf, 1), (nan, 10), (0.2, 1)],
)
def test_too_fast_shuts_the_account_for_as_long_as_it_asks_within_reason(
    retry_after: float | None, seconds: float
) -> None:
    health = after(FaultKind.RATE_LIMITED, retry_after=retry_after)
    assert not is_healthy(health, RUN, START + seconds - 0.01)
    assert is_healthy(health, RUN, START + seconds)
    assert all(health.may_try(RUN, START + seconds) for _ in range(3)), "no trial is needed"


def test_too_fast_once_more_lengthens_the_wait_and_never_shortens_it() -> None:
    health = after(FaultKind.RATE_LIMITED, retry_after=30)
    health.record(RUN, fault(FaultKind.RATE_LIMITED, retry_after=1), START + 5)
    assert not is_healthy(health, RUN, START + 29)
    health.record(RUN, fault(FaultKind.RATE_LIMITED, retry_after=60), START + 29)
    assert not is_healthy(health, RUN, START + 88)
    assert is_healthy(health, RUN, START + 89)


def test_a_refused_key_outlasts_a_shorter_wait() -> None:
    health = after(FaultKind.RATE_LIMITED, retry_after=5)
    health.record(RUN, fault(FaultKind.BAD_KEY), START + 1)
    assert not is_healthy(health, RUN, START + 60)
    health.record(RUN, fault(FaultKind.RATE_LIMITED, retry_after=1), START + 2)
    assert not is_healthy(health, RUN, START + 60)
    assert health.may_try(RUN, START + 61)
    assert not health.may_try(RUN, START + 61), "a trial is needed all the same"


def test_a_renewed_key_is_tried_without_delay() -> None:
    health = after(FaultKind.BAD_KEY)
    health.renewed("runflow", START + 1)
    assert health.may_try(RUN, START + 1)
    assert health.may_try(RUNS, START + 1)


# --- cells


@pytest.mark.parametrize("kind", OF_THE_CELL)
def test_a_cell_shuts_after_five_failures_in_a_row_and_its_neighbours_stay_open(kind: FaultKind) -> None:
    assert is_healthy(after(kind, 4), RUNS, START)
    health = after(kind, 5)
    healthy = {where: is_healthy(health, where, START + 29.9) for where in EVERYWHERE}
    assert healthy == {RUNS: False, RUNS_LOW: True, RUN: True, ELSEWHERE: True}
    assert is_healthy(health, RUNS, START + 30)


def test_a_cell_shuts_when_half_of_ten_fail() -> None:
    assert is_healthy(failing(2, 9, 1.0), RUNS, START + 9)
    assert not is_healthy(failing(2, 11, 1.0), RUNS, START + 11)


def test_a_cell_where_one_in_three_fails_stays_open() -> None:
    assert is_healthy(failing(3, 300, 1.0), RUNS, START + 300)


def test_failures_of_more_than_two_minutes_ago_are_forgotten() -> None:
    assert is_healthy(failing(2, 100, 15.0), RUNS, START + 100 * 15)


@pytest.mark.parametrize("kind", OF_NOBODY)
def test_what_nobody_is_to_blame_for_never_counts(kind: FaultKind) -> None:
    health = after(kind, 100)
    assert all(is_healthy(health, where, START) for where in EVERYWHERE)


def test_slowness_and_downgrades_forbid_no_order() -> None:
    health = Health()
    for _ in range(100):
        health.record(RUNS, success(900.0, as_ordered=False), START)
    assert health.known(RUNS, START) == CellSignals(
        p50=900.0, p90=900.0, conformance=0.0, faithful=False, deliveries=50
    )
    assert all(health.may_try(RUNS, START) for _ in range(3))


def test_health_never_keeps_the_last_one_open() -> None:
    """That a bad chance is better than none is for the routing to say."""
    health = Health()
    for where in EVERYWHERE:
        health.record(where, fault(FaultKind.BAD_KEY), START)
    assert not any(known.healthy for known in health.signals(CATALOGUE, START, lambda _: 0.0).values())
