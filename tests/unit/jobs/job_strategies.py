"""Hypothesis strategies for new jobs, updates and sellers' behaviour, both plausible and nonsensical."""

from random import Random
from typing import Any, TypeVar

from hypothesis import strategies as st

from gateway.jobs import job_update_types
from gateway.jobs.first_commit import NewJob, OrderCost
from gateway.jobs.job import Job, RecoveryMethod, RouteEntry, SellerResponse
from gateway.jobs.job_update_types import JobUpdate
from gateway.jobs.next_actions import (
    AbandonAttempt,
    AbandonJob,
    AttemptAction,
    AwaitCallback,
    AwaitClient,
    ExpireJob,
    FetchImages,
    JobAction,
    MarkResponseLost,
    PollOrder,
    ResendOrder,
    SearchOrder,
    SubmitOrder,
    WithdrawJob,
)
from providers.faults import FaultKind
from tests.unit.jobs.job_scenario import FENCE, PRICE, make_new_job, make_route_entry

UpdateT = TypeVar("UpdateT", bound=job_update_types.Fact | job_update_types.Decision)

ROUTE_ENTRIES = st.builds(
    make_route_entry,
    st.sampled_from(["runapi", "runflow-runs", "openai"]),
    max_images=st.sampled_from([1, 2, 4, 10]),
    price=st.sampled_from([0, 1, PRICE]),
    ceiling=st.sampled_from([0, PRICE, 2 * PRICE]),
    timeout_seconds=st.sampled_from([0.0, 60.0, 420.0, 100_000.0]),
    is_pollable=st.booleans(),
    recovery_method=st.sampled_from(RecoveryMethod),
)
ORDER_COSTS = st.builds(OrderCost, st.sampled_from([0, 1, PRICE]), st.sampled_from([0, 1, PRICE]))


def _make_new_job(
    n: int, priced_entries: list[tuple[RouteEntry, OrderCost]], bills_by_tokens: bool, **changes: Any
) -> NewJob:
    changes["split_count"] = min(changes["split_count"], n, len(priced_entries))
    costs = tuple(cost for _, cost in priced_entries) if bills_by_tokens else ()
    return make_new_job(n, route=tuple(entry for entry, _ in priced_entries), order_costs=costs, **changes)


NEW_JOBS = st.builds(
    _make_new_job,
    st.integers(1, 5),
    st.lists(st.tuples(ROUTE_ENTRIES, ORDER_COSTS), min_size=1, max_size=4),
    st.booleans(),
    deadline_seconds=st.sampled_from([900.0, 900.0, 900.0, 60.0, 0.0]),
    max_attempts=st.sampled_from([3, 3, 3, 2, 1, 0]),
    reorder_on_unknown=st.booleans(),
    has_webhook=st.booleans(),
    split_count=st.sampled_from([1, 1, 2, 3]),
)

RANDOMS = st.randoms(use_true_random=True)
# Mostly one of the first four attempts, since random jobs rarely have more.
ATTEMPT_NUMBERS = st.sampled_from([1, 1, 2, 2, 3, 4, 5, 6, 0, -1, 2**63, -(10**30)])
IMAGE_NUMBERS = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, -1, 10**20]), max_size=6).map(tuple)
COSTS = st.sampled_from([None, None, 0, 1, 99_999, PRICE, -1, -(10**30), 10**30])
RETRY_AFTERS = st.sampled_from([None, None, 0.0, 2.0, 1e6, -1.0, 1e300, float("nan"), float("inf")])
FAULT_KINDS = st.sampled_from(FaultKind)
FENCES = st.sampled_from([0, 1, FENCE, -1, 2**63])
TEXTS = st.sampled_from(["run-1", "run-2", "", "ß" * 40])
TEXT_LISTS = st.lists(TEXTS, max_size=2).map(tuple)
SELLER_RESPONSES = st.none() | st.builds(
    SellerResponse,
    status=st.sampled_from([None, 422, 500]),
    code=st.sampled_from([None, "bad_order", "x" * 200]),
    message=st.sampled_from(["", "no such size", "ß" * 700]),
    notes=TEXT_LISTS,
)

# The fields of updates by their names; a name means the same in each update.
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "attempt": ATTEMPT_NUMBERS,
    "cost": COSTS,
    "fault": FAULT_KINDS,
    "fence": FENCES,
    "image_urls": TEXT_LISTS,
    "images": IMAGE_NUMBERS,
    "made_count": st.sampled_from([None, None, 0, 1, 3, -7, 10**20]),
    "missing_fault": FAULT_KINDS,
    "retry_after": RETRY_AFTERS,
    "route_index": st.integers(-1, 4) | st.just(2**63),
    "seller_response": SELLER_RESPONSES,
    "ticket": TEXTS,
    "warnings": TEXT_LISTS,
}


def _build_updates(kind: type[UpdateT], *names: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[UpdateT]:
    """Builds updates with these fields at random, and the others at their defaults."""
    return st.builds(kind, **{name: FIELDS[name] for name in names}, **fields)


ORDER_FAILURES = _build_updates(
    job_update_types.OrderFailed, "attempt", "fault", "cost", "retry_after", "seller_response"
)
UPDATES: st.SearchStrategy[JobUpdate] = st.one_of(
    _build_updates(job_update_types.TicketReceived, "attempt", "ticket"),
    _build_updates(job_update_types.ResponseLost, "attempt", "fault", "seller_response"),
    _build_updates(job_update_types.CallbackReceived, "attempt"),
    _build_updates(job_update_types.ImagesReady, "attempt", "cost", "image_urls", "seller_response"),
    _build_updates(
        job_update_types.ImagesStored,
        *("attempt", "images", "made_count", "cost", "missing_fault", "warnings", "seller_response"),
    ),
    ORDER_FAILURES,
    _build_updates(job_update_types.OrderRejected, "fence", failure=ORDER_FAILURES),
    _build_updates(job_update_types.AttemptStarted, "fence", "route_index", "images"),
    _build_updates(job_update_types.AttemptAbandoned, "fence", "attempt", "fault", "seller_response"),
    _build_updates(job_update_types.JobConfirmed),
    _build_updates(job_update_types.PartAbandoned, "fence", "images", "retry_after", fault=st.none() | FAULT_KINDS),
)
# Separate, so that a random job does not end after a few job_update_types.
ENDING_UPDATES: st.SearchStrategy[JobUpdate] = st.one_of(
    _build_updates(job_update_types.CancelRequested),
    _build_updates(job_update_types.JobContentDeleted),
    _build_updates(job_update_types.JobExpired, "fence"),
    _build_updates(job_update_types.JobWithdrawn, "fence"),
    _build_updates(job_update_types.JobAbandoned, "fence"),
)


def is_waiting(action: JobAction) -> bool:
    """Returns whether only the seller or the client can bring the job further."""
    return isinstance(action, AwaitClient | PollOrder | SearchOrder | AwaitCallback | ResendOrder | FetchImages)


def perform_action(job: Job, action: JobAction, rng: Random, is_responsive: bool = True) -> JobUpdate | None:
    """Returns the update that a worker makes of an action, with a seller that responds randomly. None without a
    response."""
    match action:
        case SubmitOrder():
            return _submit_order(job, action, rng)
        case AbandonAttempt(attempt=attempt, fault=kind):
            return job_update_types.AttemptAbandoned(fence=FENCE, attempt=attempt, fault=kind)
        case AwaitClient():
            return job_update_types.JobConfirmed() if rng.random() < 0.5 else None
        case WithdrawJob():
            return job_update_types.JobWithdrawn(fence=FENCE)
        case ExpireJob():
            return job_update_types.JobExpired(fence=FENCE)
        case AbandonJob():
            return job_update_types.JobAbandoned(fence=FENCE)
        case AttemptAction(attempt=attempt):
            answer = draw_seller_update(job, attempt, rng) if is_responsive and rng.random() < 0.5 else None
            return answer or (
                job_update_types.ResponseLost(attempt=attempt) if isinstance(action, MarkResponseLost) else None
            )
    raise AssertionError(action)


def _submit_order(job: Job, action: SubmitOrder, rng: Random) -> JobUpdate:
    if not action.route_indexes and action.retries and rng.random() < 0.7:
        route_index = action.retries[0][0]
        return job_update_types.AttemptStarted(
            fence=FENCE, route_index=route_index, images=action.images[: job.route[route_index].max_images]
        )
    if not action.route_indexes or job.max_attempts < 1:
        count = rng.randrange(len(action.images)) + 1
        return job_update_types.PartAbandoned(fence=FENCE, images=action.images[:count])
    route_index = rng.choice(action.route_indexes)
    return job_update_types.AttemptStarted(
        fence=FENCE, route_index=route_index, images=action.images[: job.route[route_index].max_images]
    )


def draw_seller_update(job: Job, attempt: int, rng: Random) -> JobUpdate:
    """Returns a random update that a seller or its poll may report for this order."""
    ordered = job.attempts[attempt - 1].images
    some_images = tuple(image for image in ordered if rng.random() < 0.7)
    return rng.choice(
        (
            job_update_types.TicketReceived(attempt=attempt, ticket=f"run-{attempt}"),
            job_update_types.CallbackReceived(attempt=attempt),
            job_update_types.ImagesReady(attempt=attempt, image_urls=rng.choice(((), ("https://a.example/1",)))),
            job_update_types.ImagesStored(attempt=attempt, images=ordered),
            job_update_types.ImagesStored(attempt=attempt, images=some_images, made_count=len(some_images)),
            job_update_types.ImagesReady(attempt=attempt, cost=rng.choice((0, 99_999))),
            job_update_types.OrderFailed(attempt=attempt, fault=rng.choice(list(FaultKind))),
            job_update_types.OrderFailed(attempt=attempt, fault=FaultKind.RATE_LIMITED, retry_after=0.0),
            job_update_types.OrderFailed(
                attempt=attempt, fault=rng.choice(list(FaultKind)), cost=rng.choice((0, 77_777))
            ),
            job_update_types.ResponseLost(attempt=attempt),
        )
    )
