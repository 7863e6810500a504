"""A seller that is shut is due for a trial in time: one order, whose end opens it, or shuts it for longer."""

import pytest

from gateway.upstream.gates import TRIAL_SECONDS
from gateway.upstream.health import Health
from providers.faults import VERDICTS, Blame, FaultKind
from tests.unit.upstream.patients import RUN, RUNS, START, after, failing, fault, is_healthy, success

OF_NOBODY = [kind for kind, verdict in VERDICTS.items() if verdict.blame is Blame.NOBODY]


@pytest.mark.parametrize(("kind", "times", "first"), [(FaultKind.BAD_KEY, 1, 60), (FaultKind.FAILED, 5, 30)])
def test_one_trial_goes_when_the_time_is_over_and_nobody_beside_it(kind: FaultKind, times: int, first: float) -> None:
    health = after(kind, times)
    assert not health.may_try(RUNS, START + first - 0.01)
    assert health.may_try(RUNS, START + first)
    assert not health.may_try(RUNS, START + first + 5)
    assert not is_healthy(health, RUNS, START + first + 5)


@pytest.mark.parametrize(
    ("kind", "times", "pauses"),
    [
        (FaultKind.NO_CREDIT, 1, [60, 120, 240, 480, 900, 900]),
        (FaultKind.NOT_SENT, 5, [30, 60, 120, 240, 300, 300]),
        (FaultKind.FAILED, 5, [30, 60, 120, 240, 300, 300]),
    ],
)
def test_each_trial_that_fails_shuts_for_twice_as_long(kind: FaultKind, times: int, pauses: list[float]) -> None:
    health, now = after(kind, times), START
    for pause in pauses:
        assert not health.may_try(RUNS, now + pause - 0.01)
        now += pause
        assert health.may_try(RUNS, now)
        health.record(RUNS, fault(kind), now)
    health.record(RUNS, success(1.0), now + 1_000)
    for _ in range(times):
        health.record(RUNS, fault(kind), now + 1_000)
    assert is_healthy(health, RUNS, now + 1_000 + pauses[0]), "a success has closed the matter"


@pytest.mark.parametrize(("kind", "times"), [(FaultKind.BAD_KEY, 1), (FaultKind.NOT_SENT, 5), (FaultKind.FAILED, 5)])
def test_a_trial_that_succeeds_opens_for_everybody(kind: FaultKind, times: int) -> None:
    health = after(kind, times)
    assert health.may_try(RUNS, START + 60)
    health.record(RUNS, success(20), START + 80)
    assert all(health.may_try(RUNS, START + 80) for _ in range(3))


def test_an_accepted_order_opens_its_account_before_it_ends() -> None:
    health = after(FaultKind.NO_CREDIT)
    assert health.may_try(RUNS, START + 60)
    health.accepted("runflow", 1.5, START + 61.5)
    assert health.may_try(RUN, START + 62)


@pytest.mark.parametrize("kind", [FaultKind.BAD_KEY, FaultKind.RATE_LIMITED])
def test_orders_that_were_sent_before_prove_nothing_when_they_end_well(kind: FaultKind) -> None:
    health = after(kind, retry_after=60)
    health.record(RUN, success(30), START + 5)
    health.record(RUN, fault(FaultKind.FAILED, seconds=30), START + 6)
    assert not is_healthy(health, RUN, START + 7)


def test_orders_that_were_sent_before_prove_nothing_when_they_end_badly() -> None:
    health = after(FaultKind.FAILED, 5)
    for _ in range(20):
        health.record(RUNS, fault(FaultKind.FAILED, seconds=40), START + 31)
    assert health.may_try(RUNS, START + 31)


def test_orders_that_nobody_should_have_sent_do_not_lengthen_the_pause() -> None:
    health = after(FaultKind.BAD_KEY, 20)
    assert is_healthy(health, RUNS, START + 60)


@pytest.mark.parametrize("kind", OF_NOBODY)
def test_a_trial_that_says_nothing_makes_way_for_the_next(kind: FaultKind) -> None:
    health = after(FaultKind.BAD_KEY)
    assert health.may_try(RUNS, START + 60)
    health.record(RUNS, fault(kind, seconds=3), START + 63)
    assert health.may_try(RUNS, START + 63)
    assert not health.may_try(RUNS, START + 63)


def test_an_order_that_was_sent_before_the_trial_makes_way_for_nobody() -> None:
    health = after(FaultKind.BAD_KEY)
    assert health.may_try(RUNS, START + 60)
    health.record(RUN, fault(FaultKind.CONTENT_REFUSED, seconds=30), START + 65)
    assert not health.may_try(RUNS, START + 65)


def test_a_failure_proves_nothing_of_the_account_if_nobody_knows_when_its_order_was_sent() -> None:
    health = after(FaultKind.NO_CREDIT)
    health.record(RUN, fault(FaultKind.FAILED), START + 5)
    assert not is_healthy(health, RUN, START + 5)


def test_a_trial_of_the_cell_that_fails_for_the_account_leaves_the_cell_to_the_next() -> None:
    health = after(FaultKind.FAILED, 5)
    assert health.may_try(RUNS, START + 30)
    health.record(RUNS, fault(FaultKind.NOT_SENT), START + 31)
    assert health.may_try(RUNS, START + 31)


def test_a_trial_that_was_never_sent_makes_way_for_the_next() -> None:
    health = after(FaultKind.FAILED, 5)
    trial = health.may_try(RUNS, START + 30)
    assert trial
    health.withdraw(trial)
    assert health.may_try(RUNS, START + 30)
    assert not health.may_try(RUNS, START + 30)


@pytest.mark.parametrize("kind", [FaultKind.FAILED, FaultKind.NOT_SENT], ids=["cell", "account"])
def test_only_the_order_that_is_on_trial_makes_way_for_the_next(kind: FaultKind) -> None:
    """One that got leave while the seller was still well, and is withdrawn later, is another."""
    health = Health()
    before = health.may_try(RUNS, START)
    for _ in range(5):
        health.record(RUNS, fault(kind), START)
    trial = health.may_try(RUNS, START + 30)
    assert before
    assert trial
    health.withdraw(before)
    assert not health.may_try(RUNS, START + 31)
    health.withdraw(trial)
    assert health.may_try(RUNS, START + 31)


def test_a_leave_that_is_given_back_late_ends_no_later_trial() -> None:
    health = after(FaultKind.FAILED, 5)
    first = health.may_try(RUNS, START + 30)
    second = health.may_try(RUNS, START + 30 + TRIAL_SECONDS)
    assert first
    assert second
    health.withdraw(first)
    health.withdraw(first)
    assert not health.may_try(RUNS, START + 31 + TRIAL_SECONDS)


def test_a_trial_whose_outcome_never_comes_does_not_shut_for_ever() -> None:
    health = after(FaultKind.BAD_KEY)
    assert health.may_try(RUNS, START + 60)
    assert not health.may_try(RUNS, START + 59 + TRIAL_SECONDS)
    assert health.may_try(RUNS, START + 60 + TRIAL_SECONDS)


def test_a_trial_of_the_account_that_fails_for_the_cell_leaves_the_account_to_the_next() -> None:
    health = after(FaultKind.BAD_KEY)
    assert health.may_try(RUNS, START + 60)
    health.record(RUNS, fault(FaultKind.BROKEN, seconds=1), START + 61)
    assert health.may_try(RUN, START + 61)
    health.record(RUN, fault(FaultKind.FAILED, seconds=1), START + 62)
    assert all(health.may_try(RUN, START + 62) for _ in range(3)), "whoever takes an order takes our key"


def test_no_trial_is_spent_on_a_cell_while_its_account_is_shut() -> None:
    health = after(FaultKind.FAILED, 5)
    health.record(RUNS, fault(FaultKind.BAD_KEY), START)
    assert not health.may_try(RUNS, START + 40)
    assert health.may_try(RUNS, START + 60)


def test_a_cell_that_was_let_in_again_starts_afresh() -> None:
    health = failing(2, 11, 1.0)
    assert health.may_try(RUNS, START + 50)
    health.record(RUNS, success(1), START + 51)
    health.record(RUNS, fault(FaultKind.FAILED), START + 52)
    assert is_healthy(health, RUNS, START + 52)
