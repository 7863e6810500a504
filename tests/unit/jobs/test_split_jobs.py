"""Jobs whose images are ordered at several sellers at once: parts, failover of each part, and the hold."""

import pytest

from gateway.jobs.first_commit import NewJob, OrderCost, build_first_commit
from gateway.jobs.job import JobState
from gateway.jobs.next_actions import SubmitOrder, derive_actions
from gateway.jobs.transition_tables import LedgerLine
from providers.faults import FaultKind
from tests.unit.jobs.job_scenario import CEILING, START, JobScenario, make_new_job, make_route_entry

CHEAP_ROUTE = (make_route_entry("cheap", price=1, ceiling=2), make_route_entry("second"), make_route_entry("third"))


def list_submissions(scenario: JobScenario) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    actions = derive_actions(scenario.job, START + 1, is_created_here=True)
    return [(action.images, action.route_indexes) for action in actions if isinstance(action, SubmitOrder)]


def make_split_job(n: int, split_count: int = 2, **changes: object) -> NewJob:
    return make_new_job(n, split_count=split_count, **changes)


@pytest.mark.parametrize(
    ("n", "split_count", "parts"),
    [
        (4, 2, [(0, 1), (2, 3)]),
        (5, 2, [(0, 1, 2), (3, 4)]),
        (4, 3, [(0, 1), (2,), (3,)]),
        (2, 2, [(0,), (1,)]),
        (3, 1, [(0, 1, 2)]),
    ],
)
def test_images_are_split_evenly(n: int, split_count: int, parts: list[tuple[int, ...]]) -> None:
    job = build_first_commit(make_split_job(n, split_count), START).job
    assert [part.images for part in job.parts] == parts


def test_each_part_begins_at_its_own_entry_and_then_takes_the_others_best_first() -> None:
    scenario = JobScenario(make_split_job(5, 3))
    assert list_submissions(scenario) == [((0, 1), (0, 1, 2)), ((2, 3), (1, 0, 2)), ((4,), (2, 0, 1))]


def test_parts_fail_over_by_themselves() -> None:
    scenario = JobScenario(make_split_job(4))
    scenario.start_attempt(0, (0, 1))
    scenario.start_attempt(1, (2, 3))
    scenario.fail_order(FaultKind.UNAVAILABLE)
    assert list_submissions(scenario) == [((2, 3), (0, 2))]
    scenario.start_attempt(0, (2, 3))
    scenario.store_images((2, 3))
    assert scenario.job.state is JobState.IN_PROGRESS
    assert [part.images for part in scenario.job.parts if part.state.is_open] == [(0, 1)]


def test_remaining_images_of_a_part_go_on_from_its_own_chain() -> None:
    scenario = JobScenario(make_split_job(6))
    scenario.start_attempt(1, (3, 4, 5))
    scenario.store_images((3,))
    assert list_submissions(scenario) == [((0, 1, 2), (0, 1, 2)), ((4, 5), (0, 2))]


def test_hold_covers_the_dearest_entry_of_both_chains() -> None:
    scenario = JobScenario(make_split_job(4, route=CHEAP_ROUTE))
    assert scenario.job.hold == 4 * CEILING
    scenario.start_attempt(0, (0, 1))
    scenario.fail_order(FaultKind.UNAVAILABLE)
    for route_index, images in ((2, (0, 1)), (1, (2, 3))):
        scenario.start_attempt(route_index, images)
        scenario.store_images(images, cost=2 * CEILING)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: 4 * CEILING}
    assert (scenario.job.state, scenario.job.hold) == (JobState.COMPLETED, 0)


def test_each_part_holds_the_input_of_its_own_orders() -> None:
    """Together they need more orders than the same images at one seller."""
    order_costs = (OrderCost(30_000, 80_000),) * 3
    scenario = JobScenario(make_split_job(4, order_costs=order_costs))
    assert scenario.job.hold == 4 * CEILING + 2 * 80_000
    for route_index, images in ((1, (2, 3)), (0, (0, 1))):
        scenario.start_attempt(route_index, images)
        scenario.store_images(images, cost=2 * CEILING + 80_000)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: 4 * CEILING + 2 * 80_000}
