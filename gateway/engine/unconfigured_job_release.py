"""Releases jobs to other replicas if their sellers are not configured in this one, but may be in another."""

from collections.abc import Callable, Sequence

from gateway.engine.job_context import JobContext
from gateway.events import ErrorReported
from gateway.jobs.job import RouteEntry
from gateway.jobs.job_update_types import JobConfirmed
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

# The maximum delay of a released job, in claim intervals.
MAX_SKIPPED_CLAIMS = 10


class JobReleaser:
    """Releases one job. `on_released` is called after the release."""

    def __init__(self, job_context: JobContext, on_released: Callable[[], None]) -> None:
        self._job_context = job_context
        self._context = job_context.engine_context
        self._on_released = on_released

    def release_if_unservable(self, actions: Sequence[JobAction]) -> bool:
        """Releases the job if none of its actions can be done here. Returns whether the job is released.

        If at least one action can be done here, the others wait: only this process can receive the responses of its
        orders.
        """
        unconfigured = []
        for action in actions:
            if not (route_entries := self._list_unconfigured_entries(action)):
                return False
            unconfigured.append(route_entries)
        if not unconfigured:
            return False
        self._job_context.start_task(
            "release",
            lambda: self._release_job(
                {route_entry.seller for route_entries in unconfigured for route_entry in route_entries}
            ),
        )
        return True

    def _list_unconfigured_entries(self, action: JobAction) -> Sequence[RouteEntry]:
        """Returns the route entries that the action needs and that are not configured here. Empty if the action can be
        done without them."""
        job = self._job_context.job
        match action:
            case SubmitOrder(route_indexes=route_indexes, retries=retries):
                indexes = (*route_indexes, *(route_index for route_index, _ in retries))
                for route_index in indexes:
                    if self._context.is_configured(job.route[route_index], job.model):
                        return []
                return [job.route[route_index] for route_index in indexes]
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
            message = "not configured in this replica. The job was released for a replica that has them."
            self._context.emit(
                ErrorReported(component="engine", message=f"{', '.join(sorted(sellers))}: {message}", job=job.id)
            )
        if not job.is_confirmed:
            # Only this replica can confirm that the job was accepted. Without that, the next worker would withdraw it.
            await self._job_context.mailbox.post(JobConfirmed())
        await self._context.store.release_job(job.id, self._job_context.fence, self._get_release_seconds(release_count))
        self._on_released()

    def _get_release_seconds(self, release_count: int) -> float:
        """Returns the delay before the job is due again. It grows with each release, but never exceeds the deadline of
        the job.

        If there are no other replicas, this one claims the job again; the growing delay keeps that rare. This replica
        claims at whole intervals from now. A random fraction of an interval is added, so that other replicas claim the
        job first.
        """
        timing = self._context.timing.claims
        release_seconds = timing.interval_seconds * (
            min(release_count + 1, MAX_SKIPPED_CLAIMS) + 0.05 + 0.4 * self._context.draw_random()
        )
        job = self._job_context.job
        if job.state.is_terminal or job.is_overdue:
            return release_seconds
        return min(release_seconds, max(job.deadline - self._context.wall_clock(), timing.min_release_seconds))
