"""Confirms that a job is to be bought: it is then bought even if the process that accepted it crashes."""

import contextlib

from gateway.engine.job_context import JobContext
from gateway.jobs.job_update_types import JobConfirmed
from gateway.store.base import StoreUnavailable
from gateway.store.job_watch import JobWatch


class JobConfirmer:
    """Confirms one job."""

    def __init__(self, job_context: JobContext) -> None:
        self._job_context = job_context

    async def confirm(self) -> None:
        """Saves that the job is to be bought. A first attempt that is saved meanwhile has the same effect.

        The job stays unconfirmed if it has ended or its lease is lost: check `is_confirmed` afterwards.
        """
        with JobWatch(self._job_context.engine_context.job_watchers, self._job_context.job.id) as watch:
            if not self._job_context.job.is_confirmed:
                await watch.wait_for_change(
                    self._job_context.engine_context.timing.workers.first_attempt_timeout_seconds
                )
        if not self._job_context.job.is_confirmed:
            await self._job_context.mailbox.post(JobConfirmed())

    async def wait_for_client_retry(self, until: float) -> None:
        """Waits until `until` for the client to retry. The process that receives the retry confirms the job."""
        context = self._job_context.engine_context
        with context.store.watch(self._job_context.job.id) as watch:
            while not self._job_context.job.is_confirmed and (remaining_seconds := until - context.wall_clock()) > 0:
                with contextlib.suppress(StoreUnavailable):
                    saved_job = await context.store.load_job(self._job_context.job.id)
                    if saved_job is not None and saved_job.is_confirmed:
                        await self._job_context.mailbox.post(JobConfirmed())
                        return
                await watch.wait_for_change(min(remaining_seconds, context.timing.workers.confirmation_poll_seconds))
