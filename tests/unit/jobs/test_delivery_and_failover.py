"""Delivery of all or some images, and failover to other sellers."""

import pytest

from gateway.jobs.first_commit import NewJob, build_first_commit
from gateway.jobs.job import AttemptState, JobState, Part, PartState
from gateway.jobs.job_update_types import (
    AttemptStarted,
    ImagesReady,
    ImagesStored,
    OrderFailed,
    PartAbandoned,
    TicketReceived,
)
from gateway.jobs.next_actions import SubmitOrder, derive_actions
from gateway.jobs.transition_tables import LedgerLine
from providers.faults import FaultKind
from tests.unit.jobs.job_scenario import CEILING, FENCE, PRICE, START, JobScenario, make_new_job, make_route_entry


def test_new_job_is_queued_with_budget_hold() -> None:
    scenario = JobScenario(make_new_job(n=4))
    assert scenario.get_outcome() == (JobState.QUEUED, False)
    assert scenario.job.parts == (Part(images=(0, 1, 2, 3)),)
    assert scenario.job.hold == 4 * CEILING


def test_hold_covers_most_expensive_route_entry() -> None:
    scenario = JobScenario(
        make_new_job(
            n=2, route=(make_route_entry(ceiling=100), make_route_entry(ceiling=300), make_route_entry(ceiling=200))
        )
    )
    assert scenario.job.hold == 600


@pytest.mark.parametrize(
    "new_job",
    [
        make_new_job(n=0),
        make_new_job(route=()),
    ],
    ids=["no image", "no seller"],
)
def test_job_without_images_or_route_is_rejected(new_job: NewJob) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        build_first_commit(new_job, START)


def test_order_goes_from_opened_to_ticketed_to_delivered() -> None:
    scenario = JobScenario(make_new_job(n=2))
    number = scenario.start_attempt(images=(0, 1))
    assert (scenario.job.state, scenario.last_attempt.state) == (JobState.IN_PROGRESS, AttemptState.OPENED)
    scenario.apply(TicketReceived(attempt=number, ticket="run-1"), 1.0)
    assert (scenario.last_attempt.state, scenario.last_attempt.ticket) == (AttemptState.TICKETED, "run-1")
    scenario.apply(ImagesReady(attempt=number, image_urls=("https://a.example/1",)), 20.0)
    assert (scenario.last_attempt.images_ready, scenario.last_attempt.image_urls) == (True, ("https://a.example/1",))
    scenario.store_images((0, 1), 21.0)
    assert (scenario.last_attempt.state, scenario.last_attempt.image_urls, scenario.last_attempt.closed_at) == (
        AttemptState.CLOSED,
        (),
        START + 21.0,
    )
    assert scenario.get_outcome() == (JobState.COMPLETED, True)
    assert (scenario.job.delivered_images, scenario.job.warnings, scenario.job.fault) == ((0, 1), (), None)


def test_image_urls_survive_second_ready_update() -> None:
    scenario = JobScenario()
    scenario.start_attempt()
    scenario.report_images_ready(image_urls=("https://a.example/1",))
    scenario.report_images_ready(cost=90_000)
    assert (scenario.last_attempt.image_urls, scenario.last_attempt.cost) == (("https://a.example/1",), 90_000)


def test_partial_delivery_after_all_failovers_completes_job_with_warning() -> None:
    scenario = JobScenario(make_new_job(n=4, warnings=("quality_not_selectable",)))
    scenario.start_attempt(0, (0, 1, 2, 3))
    scenario.store_images((0, 1), made_count=2)
    scenario.start_attempt(1, (2, 3))
    scenario.store_images((3,), made_count=1)
    scenario.start_attempt(2, (2,))
    scenario.fail_order(FaultKind.ORDER_FAILED)
    assert scenario.get_outcome() == (JobState.COMPLETED, True)
    assert scenario.job.delivered_images == (0, 1, 3)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: 3 * PRICE}
    assert scenario.job.warnings == ("quality_not_selectable", "partial_delivery: 3 of 4 images")
    assert scenario.job.fault is FaultKind.ORDER_FAILED


def test_next_seller_may_take_fewer_images_per_order() -> None:
    scenario = JobScenario(make_new_job(n=4, route=(make_route_entry(max_images=4), make_route_entry(max_images=1))))
    scenario.start_attempt(0, (0, 1, 2, 3))
    scenario.fail_order(FaultKind.UNAVAILABLE)
    for image in (2, 0, 3, 1):
        scenario.start_attempt(1, (image,))
    assert [part.images for part in scenario.job.parts] == [(0,), (1,), (2,), (3,)]
    assert [part.tried_indexes for part in scenario.job.parts] == [(0, 1)] * 4
    for attempt in range(2, 6):
        images = scenario.job.attempts[attempt - 1].images
        scenario.apply(ImagesStored(attempt=attempt, images=images), 30.0)
    assert scenario.get_outcome() == (JobState.COMPLETED, True)


def test_waiting_images_keep_their_tried_entries() -> None:
    scenario = JobScenario(make_new_job(n=2, max_attempts=2))
    scenario.start_attempt(0, (0, 1))
    scenario.fail_order(FaultKind.ORDER_FAILED)
    scenario.start_attempt(1, (0,))
    waiting = next(part for part in scenario.job.parts if part.state is PartState.WAITING)
    assert (waiting.images, waiting.tried_indexes, waiting.fault) == ((1,), (0,), FaultKind.ORDER_FAILED)


@pytest.mark.parametrize(
    ("route_index", "images"),
    [(0, ()), (0, (0, 4)), (0, (-1,)), (3, (0,)), (-1, (0,)), (1, (0, 1))],
    ids=["none", "unknown image", "below", "no such route entry", "negative route index", "more than it takes"],
)
def test_impossible_order_is_not_started(route_index: int, images: tuple[int, ...]) -> None:
    scenario = JobScenario(
        make_new_job(n=4, route=(make_route_entry(), make_route_entry(max_images=1), make_route_entry()))
    )
    assert scenario.expect_ignored(AttemptStarted(fence=FENCE, route_index=route_index, images=images))


def test_image_is_not_ordered_twice_at_once() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(images=(0,))
    assert "do not belong to one waiting part" in scenario.expect_ignored(
        AttemptStarted(fence=FENCE, route_index=1, images=(0,))
    )
    assert "do not belong to one waiting part" in scenario.expect_ignored(
        AttemptStarted(fence=FENCE, route_index=1, images=(0, 1))
    )


def test_image_named_twice_is_ordered_once() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(images=(1, 0, 1, 0))
    assert scenario.last_attempt.images == (0, 1)


def test_image_has_no_more_than_max_attempts() -> None:
    scenario = JobScenario(make_new_job(max_attempts=0))
    assert "used up" in scenario.expect_ignored(AttemptStarted(fence=FENCE, route_index=0, images=(0,)))
    scenario.apply(PartAbandoned(fence=FENCE, images=(0,)))
    assert scenario.get_outcome() == (JobState.FAILED, True)


def test_entry_is_not_tried_twice() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(images=(0, 1), route_index=0)
    scenario.apply(OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED))
    for images in ((0, 1), (0,), (1,)):
        assert "already tried" in scenario.expect_ignored(AttemptStarted(fence=FENCE, route_index=0, images=images))
    scenario.start_attempt(images=(0, 1), route_index=1)
    assert scenario.last_attempt.route_index == 1


def test_part_without_sellers_is_abandoned_with_last_fault() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(0, (0, 1))
    scenario.fail_order(FaultKind.RATE_LIMITED)
    scenario.apply(PartAbandoned(fence=FENCE, images=(1, 0)), 3.0)
    assert scenario.get_outcome() == (JobState.FAILED, True)
    assert scenario.job.fault is FaultKind.RATE_LIMITED


def test_only_images_of_one_waiting_part_are_abandoned() -> None:
    scenario = JobScenario(make_new_job(n=3))
    scenario.start_attempt(0, (0,))
    for images in ((0,), (0, 1), (0, 1, 2), (), (7,)):
        assert "do not belong to one waiting part" in scenario.expect_ignored(
            PartAbandoned(fence=FENCE, images=images, fault=FaultKind.NO_CREDIT)
        )
    scenario.apply(PartAbandoned(fence=FENCE, images=(1, 2), fault=FaultKind.NO_CREDIT))
    assert scenario.job.state is JobState.IN_PROGRESS
    scenario.store_images((0,))
    assert (scenario.job.state, scenario.job.fault) == (JobState.COMPLETED, FaultKind.NO_CREDIT)


def test_rest_of_abandoned_part_keeps_waiting() -> None:
    scenario = JobScenario(make_new_job(n=3))
    scenario.apply(PartAbandoned(fence=FENCE, images=(2, 0), fault=FaultKind.SERVER_ERROR))
    assert (scenario.list_images(PartState.FAILED), scenario.list_images(PartState.WAITING)) == ([0, 2], [1])
    [submission] = derive_actions(scenario.job, scenario.started_at + 2.0, is_created_here=True)
    assert submission == SubmitOrder(images=(1,), route_indexes=(0, 1, 2))
    scenario.start_attempt(0, (1,))
    scenario.store_images((1,))
    assert (scenario.job.state, scenario.job.fault) == (JobState.COMPLETED, FaultKind.SERVER_ERROR)


def test_abandoning_images_one_by_one_ends_job() -> None:
    scenario = JobScenario(make_new_job(n=3))
    for image in (1, 0, 2):
        assert not scenario.job.state.is_terminal
        scenario.apply(PartAbandoned(fence=FENCE, images=(image,), fault=FaultKind.SERVER_ERROR))
    assert scenario.get_outcome() == (JobState.FAILED, True)
    assert scenario.job.fault is FaultKind.SERVER_ERROR
    assert scenario.sum_ledger() == {}


def test_order_delivers_only_its_own_images() -> None:
    scenario = JobScenario(make_new_job(n=3))
    scenario.start_attempt(0, (0,))
    scenario.store_images((0, 1, 2, 99, -1))
    assert scenario.job.delivered_images == (0,)
    assert scenario.list_images(PartState.WAITING) == [1, 2]


def test_warnings_are_kept_once_each() -> None:
    scenario = JobScenario(make_new_job(n=2, warnings=("a",)))
    scenario.start_attempt(0, (0,))
    scenario.store_images((0,), warnings=("b", "a", "b"))
    scenario.start_attempt(0, (1,))
    scenario.store_images((1,), warnings=("b", "c"))
    assert scenario.job.warnings == ("a", "b", "c")


def test_job_without_images_has_no_partial_delivery_warning() -> None:
    scenario = JobScenario(make_new_job(n=2, max_attempts=1))
    scenario.start_attempt(0, (0, 1))
    scenario.store_images((), warnings=("downgraded",))
    assert (scenario.job.state, scenario.job.warnings, scenario.job.fault) == (JobState.FAILED, (), FaultKind.NO_IMAGES)


def test_ticket_cannot_be_replaced() -> None:
    scenario = JobScenario()
    number = scenario.receive_ticket()
    assert "nothing new" in scenario.expect_ignored(TicketReceived(attempt=number, ticket="run-1"))
    assert "another ticket" in scenario.expect_ignored(TicketReceived(attempt=number, ticket="run-2"))
