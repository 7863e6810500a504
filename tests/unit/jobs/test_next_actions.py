"""Actions of a worker that reclaims a job, for every state of a job."""

import pytest

from gateway.jobs.job import RecoveryMethod
from gateway.jobs.job_update_types import (
    AttemptAbandoned,
    CallbackReceived,
    CancelRequested,
    JobAbandoned,
    JobConfirmed,
    JobExpired,
    ResponseLost,
)
from gateway.jobs.next_actions import (
    NO_PREVIOUS_WORKER,
    AbandonAttempt,
    AbandonJob,
    AbandonLostImages,
    AwaitCallback,
    AwaitPreviousWorker,
    ExpireJob,
    FetchImages,
    JobAction,
    MarkResponseLost,
    PollOrder,
    PreviousWorker,
    ResendOrder,
    SearchOrder,
    SubmitOrder,
    derive_actions,
    next_due,
)
from providers.faults import VERDICTS, ChargeStatus, FaultKind
from tests.unit.jobs.job_scenario import DEADLINE_SECONDS, FENCE, START, JobScenario, make_new_job, make_route_entry

DAY_SECONDS = 86_400.0
# Reclaimed the first order after three seconds, with a lease of fifteen.
PREVIOUS_WORKER = PreviousWorker(until=START + 18, attempt_count=1)


def list_actions(
    scenario: JobScenario, seconds: float, reclaims: int = 0, previous_worker: PreviousWorker = NO_PREVIOUS_WORKER
) -> tuple[JobAction, ...]:
    """Lists the actions of a worker whose store confirmed that the job was created."""
    return derive_actions(scenario.job, START + seconds, reclaims, previous_worker, is_created_here=True)


def get_due_seconds(scenario: JobScenario, seconds: float) -> float:
    return next_due(scenario.job, START + seconds) - START


def make_scenario(**changes: object) -> JobScenario:
    return JobScenario(make_new_job(route=(make_route_entry(**changes),)))


# --- images that are not ordered yet


def test_queued_job_is_submitted_to_best_entry_first() -> None:
    assert list_actions(JobScenario(make_new_job(n=2)), 0) == (SubmitOrder(images=(0, 1), route_indexes=(0, 1, 2)),)


def test_waiting_parts_are_submitted_to_untried_entries() -> None:
    scenario = JobScenario(make_new_job(n=3))
    scenario.start_attempt(1, (0, 1))
    scenario.fail_order(FaultKind.ORDER_FAILED)
    scenario.start_attempt(0, (2,))
    assert list_actions(scenario, 3) == (MarkResponseLost(attempt=2), SubmitOrder(images=(0, 1), route_indexes=(0, 2)))


def test_part_with_every_entry_tried_has_no_entry_left() -> None:
    scenario = make_scenario()
    scenario.start_attempt()
    scenario.fail_order(FaultKind.ORDER_FAILED)
    assert list_actions(scenario, 3) == (SubmitOrder(images=(0,), route_indexes=()),)


# --- orders with a ticket


def test_ticketed_order_is_polled_until_its_deadline() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    assert list_actions(scenario, 419.9) == (PollOrder(attempt=1, ticket="run-1", until=START + 420),)
    assert list_actions(scenario, 420) == (AbandonAttempt(attempt=1, fault=FaultKind.ORDER_TIMED_OUT),)


def test_ready_images_are_polled_as_long_as_sellers_keep_them() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.report_images_ready()
    scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS)
    assert list_actions(scenario, DAY_SECONDS - 1) == (PollOrder(attempt=1, ticket="run-1", until=START + DAY_SECONDS),)
    assert list_actions(scenario, DAY_SECONDS) == (AbandonAttempt(attempt=1, fault=FaultKind.IMAGES_EXPIRED),)


def test_slow_seller_is_polled_for_its_own_timeout() -> None:
    scenario = make_scenario(timeout_seconds=2 * DAY_SECONDS)
    scenario.receive_ticket()
    scenario.report_images_ready()
    assert list_actions(scenario, 10)[0] == PollOrder(attempt=1, ticket="run-1", until=START + 2 * DAY_SECONDS)


def test_ready_images_are_fetched_from_their_urls() -> None:
    scenario = make_scenario(is_pollable=False)
    scenario.start_attempt()
    scenario.report_images_ready(image_urls=("https://a.example/1",))
    assert list_actions(scenario, 10) == (FetchImages(attempt=1, image_urls=("https://a.example/1",)),)
    assert list_actions(scenario, DEADLINE_SECONDS) == (ExpireJob(),)
    scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS)
    assert list_actions(scenario, DAY_SECONDS) == (AbandonAttempt(attempt=1, fault=FaultKind.IMAGES_EXPIRED),)


def test_unpollable_ready_images_are_lost_with_their_worker() -> None:
    scenario = make_scenario(is_pollable=False)
    scenario.start_attempt()
    scenario.report_images_ready()
    assert list_actions(scenario, 3) == (AbandonLostImages(attempt=1, fault=FaultKind.IMAGES_EXPIRED),)


# --- orders whose response is lost


@pytest.mark.parametrize("recovery_method", RecoveryMethod)
def test_order_of_crashed_worker_has_lost_its_response(recovery_method: RecoveryMethod) -> None:
    scenario = make_scenario(recovery_method=recovery_method)
    scenario.start_attempt()
    assert list_actions(scenario, 3) == (MarkResponseLost(attempt=1),)
    scenario.apply(ResponseLost(attempt=1), 3)
    assert list_actions(scenario, 3) != (MarkResponseLost(attempt=1),)


def test_replayable_order_is_resent() -> None:
    scenario = make_scenario(recovery_method=RecoveryMethod.REPLAY)
    scenario.lose_response()
    assert list_actions(scenario, 419) == (ResendOrder(attempt=1, until=START + 420),)
    assert list_actions(scenario, 420) == (AbandonAttempt(attempt=1, fault=FaultKind.RESPONSE_LOST),)


def test_searchable_order_is_searched_for_two_minutes() -> None:
    scenario = make_scenario(recovery_method=RecoveryMethod.SEARCH)
    scenario.lose_response(seconds=30)
    assert list_actions(scenario, 149.9) == (SearchOrder(attempt=1, until=START + 150),)
    assert list_actions(scenario, 150) == (AbandonAttempt(attempt=1, fault=FaultKind.RESPONSE_LOST),)


def test_callback_only_order_is_awaited_for_two_minutes() -> None:
    scenario = make_scenario(recovery_method=RecoveryMethod.CALLBACK)
    scenario.lose_response(seconds=30)
    assert list_actions(scenario, 149.9) == (AwaitCallback(attempt=1, until=START + 150),)
    assert list_actions(scenario, 150) == (AbandonAttempt(attempt=1, fault=FaultKind.RESPONSE_LOST),)


@pytest.mark.parametrize(
    ("recovery_method", "action_class"),
    [(RecoveryMethod.SEARCH, SearchOrder), (RecoveryMethod.CALLBACK, AwaitCallback)],
)
def test_order_that_called_back_gets_its_full_timeout(
    recovery_method: RecoveryMethod, action_class: type[JobAction]
) -> None:
    scenario = make_scenario(recovery_method=recovery_method)
    scenario.lose_response(seconds=30)
    scenario.apply(CallbackReceived(attempt=1), 40)
    (action,) = list_actions(scenario, 419)
    assert isinstance(action, action_class)
    assert list_actions(scenario, 420) == (AbandonAttempt(attempt=1, fault=FaultKind.RESPONSE_LOST),)


@pytest.mark.parametrize("recovery_method", [RecoveryMethod.REPLAY, RecoveryMethod.SEARCH, RecoveryMethod.CALLBACK])
def test_order_lost_near_deadline_is_recovered_for_two_minutes(recovery_method: RecoveryMethod) -> None:
    """Its worker may have stopped an hour ago; the search goes on. A callback never shortens the search."""
    scenario = make_scenario(recovery_method=recovery_method, timeout_seconds=60.0)
    scenario.lose_response(seconds=500)
    scenario.apply(CallbackReceived(attempt=1), 501)
    (action,) = list_actions(scenario, 619)
    assert isinstance(action, ResendOrder | SearchOrder | AwaitCallback)
    assert list_actions(scenario, 620) == (AbandonAttempt(attempt=1, fault=FaultKind.RESPONSE_LOST),)


def test_synchronous_order_is_abandoned_at_once() -> None:
    scenario = make_scenario(is_pollable=False)
    scenario.lose_response()
    assert list_actions(scenario, 1) == (AbandonAttempt(attempt=1, fault=FaultKind.RESPONSE_LOST),)


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if VERDICTS[kind].charge_status is ChargeStatus.UNKNOWN])
@pytest.mark.parametrize(
    ("recovery_method", "until"), [(RecoveryMethod.NONE, 2), (RecoveryMethod.SEARCH, 121), (RecoveryMethod.REPLAY, 420)]
)
def test_abandoned_attempt_keeps_fault_that_lost_response(
    recovery_method: RecoveryMethod, until: float, kind: FaultKind
) -> None:
    scenario = make_scenario(recovery_method=recovery_method)
    scenario.start_attempt()
    scenario.apply(ResponseLost(attempt=1, fault=kind))
    assert list_actions(scenario, until) == (AbandonAttempt(attempt=1, fault=kind),)
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=1, fault=kind), until)
    assert scenario.last_attempt.fault is kind


@pytest.mark.parametrize(
    ("recovery_method", "expected_action"),
    [
        (RecoveryMethod.NONE, AbandonAttempt(attempt=1, fault=FaultKind.RESPONSE_LOST)),
        (RecoveryMethod.REPLAY, ResendOrder(attempt=1, until=START + 420)),
        (RecoveryMethod.SEARCH, SearchOrder(attempt=1, until=START + 123)),
    ],
)
def test_unpollable_ticket_counts_as_no_ticket(recovery_method: RecoveryMethod, expected_action: JobAction) -> None:
    scenario = make_scenario(is_pollable=False, recovery_method=recovery_method)
    scenario.receive_ticket()
    assert list_actions(scenario, 3) == (MarkResponseLost(attempt=1),)
    scenario.apply(ResponseLost(attempt=1), 3)
    assert list_actions(scenario, 3) == (expected_action,)


# --- updates that only the previous worker may have


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("recovery_method", [RecoveryMethod.NONE, RecoveryMethod.REPLAY])
def test_unrecoverable_order_awaits_previous_worker(recovery_method: RecoveryMethod, cancelled: bool) -> None:
    scenario = make_scenario(recovery_method=recovery_method)
    scenario.start_attempt()
    assert list_actions(scenario, 3, previous_worker=PREVIOUS_WORKER) == (MarkResponseLost(attempt=1),)
    scenario.apply(ResponseLost(attempt=1), 3)
    if recovery_method is RecoveryMethod.REPLAY and not cancelled:
        assert list_actions(scenario, 3, previous_worker=PREVIOUS_WORKER) == (
            ResendOrder(attempt=1, until=START + 420),
        )
        return
    scenario.apply(CancelRequested(), 3)
    assert list_actions(scenario, 17.9, previous_worker=PREVIOUS_WORKER) == (
        AwaitPreviousWorker(attempt=1, until=START + 18),
    )
    assert list_actions(scenario, 18, previous_worker=PREVIOUS_WORKER) == (
        AbandonAttempt(attempt=1, fault=FaultKind.RESPONSE_LOST),
    )


def test_inline_images_await_previous_worker() -> None:
    scenario = make_scenario(is_pollable=False)
    scenario.start_attempt()
    scenario.report_images_ready()
    assert list_actions(scenario, 17.9, previous_worker=PREVIOUS_WORKER) == (
        AwaitPreviousWorker(attempt=1, until=START + 18),
    )
    assert list_actions(scenario, 18, previous_worker=PREVIOUS_WORKER) == (
        AbandonLostImages(attempt=1, fault=FaultKind.IMAGES_EXPIRED),
    )


def test_previous_worker_is_not_awaited_for_own_orders() -> None:
    scenario = JobScenario(make_new_job(n=2, route=(make_route_entry(is_pollable=False),)))
    scenario.lose_response(images=(0,))
    scenario.lose_response(images=(1,))
    actions = list_actions(scenario, 3, previous_worker=PREVIOUS_WORKER)
    assert actions == (
        AwaitPreviousWorker(attempt=1, until=START + 18),
        AbandonAttempt(attempt=2, fault=FaultKind.RESPONSE_LOST),
    )


def test_overdue_order_does_not_await_previous_worker() -> None:
    scenario = make_scenario(recovery_method=RecoveryMethod.SEARCH, timeout_seconds=10.0)
    scenario.receive_ticket()
    assert list_actions(scenario, 11, previous_worker=PREVIOUS_WORKER) == (
        AbandonAttempt(attempt=1, fault=FaultKind.ORDER_TIMED_OUT),
    )


# --- the end of the job


def test_job_past_deadline_expires_first() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.receive_ticket(images=(0,))
    assert list_actions(scenario, DEADLINE_SECONDS) == (ExpireJob(),)
    scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS)
    assert list_actions(scenario, DEADLINE_SECONDS) == (AbandonAttempt(attempt=1, fault=FaultKind.ORDER_TIMED_OUT),)


@pytest.mark.parametrize("reclaims", [6, 7, 1_000])
def test_job_that_crashes_its_workers_is_abandoned(reclaims: int) -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.receive_ticket(images=(0,))
    assert list_actions(scenario, 3, 5) == list_actions(scenario, 3)
    assert list_actions(scenario, 3, reclaims) == (AbandonJob(),)
    scenario.apply(JobAbandoned(fence=FENCE), 3)
    assert list_actions(scenario, 3, reclaims) == (PollOrder(attempt=1, ticket="run-1", until=START + 420),), (
        "it was ordered"
    )


def test_settled_job_has_no_actions() -> None:
    scenario = JobScenario()
    assert scenario.apply(CancelRequested()).due_at is None
    assert list_actions(scenario, 10**9, 99) == ()


def test_terminal_job_with_running_order_is_still_polled() -> None:
    scenario = make_scenario(timeout_seconds=2_000.0)
    scenario.receive_ticket()
    scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS)
    assert list_actions(scenario, 1_999) == (PollOrder(attempt=1, ticket="run-1", until=START + 2_000),)
    assert get_due_seconds(scenario, 1_997) == 2_000


# --- due times


def test_action_possible_now_is_due_now() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.apply(JobConfirmed(), 0.0)
    assert get_due_seconds(scenario, 0.5) == 0.5
    scenario.receive_ticket(images=(0,))
    assert get_due_seconds(scenario, 2) == 2, "the other image waits to be ordered"


@pytest.mark.parametrize("recovery_method", [RecoveryMethod.REPLAY, RecoveryMethod.SEARCH, RecoveryMethod.CALLBACK])
def test_search_is_due_every_five_seconds_and_at_its_end(recovery_method: RecoveryMethod) -> None:
    scenario = make_scenario(recovery_method=recovery_method, timeout_seconds=121.0)
    scenario.lose_response(seconds=1)
    assert get_due_seconds(scenario, 10) == 15
    assert get_due_seconds(scenario, 119) == 121


def test_poll_is_due_by_end_of_order_and_job() -> None:
    scenario = make_scenario(timeout_seconds=DEADLINE_SECONDS - 1)
    scenario.receive_ticket()
    assert get_due_seconds(scenario, 10) == 15
    assert get_due_seconds(scenario, DEADLINE_SECONDS - 3) == DEADLINE_SECONDS - 1
    longer = make_scenario(timeout_seconds=2 * DEADLINE_SECONDS)
    longer.receive_ticket()
    assert get_due_seconds(longer, DEADLINE_SECONDS - 3) == DEADLINE_SECONDS


def test_cancelled_order_is_not_resent() -> None:
    """A resent order may be charged for the first time."""
    scenario = make_scenario(recovery_method=RecoveryMethod.REPLAY)
    scenario.lose_response()
    assert isinstance(list_actions(scenario, 3)[0], ResendOrder)
    scenario.apply(CancelRequested(), 3)
    assert list_actions(scenario, 3) == (AbandonAttempt(attempt=1, fault=FaultKind.RESPONSE_LOST),)
