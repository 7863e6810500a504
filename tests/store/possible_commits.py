"""Lists every commit that could follow a job's present state, for random histories."""

from collections.abc import Iterator

from gateway.jobs.commit import Commit, build_update_commit
from gateway.jobs.job import Job, PartState
from gateway.jobs.job_update_types import (
    AttemptAbandoned,
    AttemptStarted,
    CallbackReceived,
    CancelRequested,
    ImagesReady,
    ImagesStored,
    JobAbandoned,
    JobConfirmed,
    JobExpired,
    JobUpdate,
    JobWithdrawn,
    OrderFailed,
    PartAbandoned,
    ResponseLost,
    TicketReceived,
)
from gateway.jobs.transitions import Ignored
from providers.faults import FaultKind


def list_possible_commits(job: Job, fence: int, now: float) -> list[Commit]:
    """Lists every commit that would change this job."""
    commits = (build_update_commit(job, update, now) for update in _list_possible_updates(job, fence))
    return [commit for commit in commits if not isinstance(commit, Ignored)]


def _list_possible_updates(job: Job, fence: int) -> Iterator[JobUpdate]:
    yield CancelRequested()
    yield JobConfirmed()
    yield JobWithdrawn(fence=fence)
    yield JobExpired(fence=fence)
    yield JobAbandoned(fence=fence)
    for part in job.parts:
        if part.state is PartState.WAITING:
            for index, entry in enumerate(job.route):
                yield AttemptStarted(fence=fence, route_index=index, images=part.images[: entry.max_images])
            yield PartAbandoned(fence=fence, images=part.images)
    for attempt in job.attempts:
        yield from _list_attempt_updates(attempt.number, attempt.images, fence)


def _list_attempt_updates(number: int, images: tuple[int, ...], fence: int) -> Iterator[JobUpdate]:
    yield TicketReceived(attempt=number, ticket=f"ticket-{number}")
    yield ResponseLost(attempt=number)
    yield CallbackReceived(attempt=number)
    yield ImagesReady(attempt=number, cost=41_000)
    yield ImagesStored(attempt=number, images=images)
    yield ImagesStored(attempt=number, images=images[:1], made_count=len(images), cost=77_777)
    for kind in (FaultKind.UNAVAILABLE, FaultKind.ORDER_FAILED, FaultKind.RESPONSE_LOST, FaultKind.NO_IMAGES):
        yield OrderFailed(attempt=number, fault=kind)
    yield AttemptAbandoned(fence=fence, attempt=number, fault=FaultKind.ORDER_TIMED_OUT)
