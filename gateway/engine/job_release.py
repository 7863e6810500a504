"""Leaves jobs to other replicas: those whose sellers this one's configuration lacks, and another's may have."""

import random
from collections.abc import Callable, Sequence

from gateway.engine.job_context import JobContext
from gateway.events import ErrorReported
from gateway.jobs.job import RouteEntry
from gateway.jobs.next_actions import (
    AttemptAction,
    AwaitCallback,
    FetchImages,
    JobAction,
    PollOrder,
    ResendOrder,
    SearchOrder,
    SubmitOrder,
)
from gateway.jobs.updates import JobConfirmed

# How often every replica looks for jobs, as `engine.RESCUE_SECONDS` says, and how many looks a job is left alone for.
CLAIM_INTERVAL_SECONDS, MAX_SKIPPED_CLAIMS = 1.0, 10
MIN_RELEASE_SECONDS = 0.5


class JobReleaser:
    """One job's. `on_released`: tells its owner that it is not his any more."""

    def __init__(self, job_context: JobContext, on_released: Callable[[], None]) -> None:
        self._job_context = job_context
        self._context = job_context.engine_context
        self._on_released = on_released

    def release_if_unservable(self, actions: Sequence[JobAction]) -> bool:
        """Whether the job is being left, since nothing of it can be done here.

        As long as anything can, what cannot waits: whoever has an order on its way must hear its answer.
        """
        unconfigured = [self._list_unconfigured_entries(action) for action in actions]
        if not unconfigured or not all(unconfigured):
            return False
        self._job_context.start_task(
            "leave",
            lambda: self._release_job(
                {route_entry.seller for route_entries in unconfigured for route_entry in route_entries}
            ),
        )
        return True

    def _list_unconfigured_entries(self, action: JobAction) -> Sequence[RouteEntry]:
        """The places, unknown here, without which this cannot be done at all."""
        job = self._job_context.job
        match action:
            case SubmitOrder(route_indexes=route_indexes, retries=retries):
                route_entries = [
                    job.route[route_index]
                    for route_index in (*route_indexes, *(route_index for route_index, _ in retries))
                ]
                return (
                    []
                    if any(self._context.is_configured(route_entry, job.model) for route_entry in route_entries)
                    else route_entries
                )
            case PollOrder() | SearchOrder() | ResendOrder() | AwaitCallback() | FetchImages():
                return self._list_unconfigured_attempt_entries(action)
            case _:
                return []

    def _list_unconfigured_attempt_entries(self, action: AttemptAction) -> Sequence[RouteEntry]:
        route_entry = self._job_context.get_route_entry(self._job_context.get_attempt(action.attempt))
        offer = self._context.find_offer(route_entry, self._job_context.job.model)
        return [] if offer and offer.seller.account.api_key else [route_entry]

    async def _release_job(self, sellers: set[str]) -> None:
        job = self._job_context.job
        release_count = self._context.release_counts.increment(job.id)
        if not release_count:
            message = "not in this configuration, so the job is left to a replica that can go on with it"
            self._context.emit(
                ErrorReported(component="engine", message=f"{', '.join(sorted(sellers))}: {message}", job=job.id)
            )
        if not job.is_confirmed:
            # This replica knows that the job was accepted; the next owner does not.
            await self._job_context.mailbox.post(JobConfirmed())
        await self._context.store.release_job(job.id, self._job_context.fence, self._get_release_seconds(release_count))
        self._on_released()

    def _get_release_seconds(self, release_count: int) -> float:
        """Longer each time: where nobody else is there, the job must not go round in a circle. Its deadline is obeyed
        in time all the same, by whoever there is.

        We have this job because we just looked, and look again after whole looks: the job is due a little later than
        that, so that whoever else is there looks first. By how much is chance, since some look right after us.
        """
        release_seconds = CLAIM_INTERVAL_SECONDS * (
            min(release_count + 1, MAX_SKIPPED_CLAIMS) + random.uniform(0.05, 0.45)
        )  # noqa: S311  no secret
        job = self._job_context.job
        if job.state.is_terminal or job.overdue:
            return release_seconds
        return min(release_seconds, max(job.deadline - self._context.wall_clock(), MIN_RELEASE_SECONDS))
