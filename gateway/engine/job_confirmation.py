"""Whether a job's caller counts on it: then it is bought, whatever becomes of the process that accepted it."""

import contextlib

from gateway.engine.job_context import JobContext
from gateway.jobs.updates import JobConfirmed
from gateway.store.base import StoreUnavailable
from gateway.store.job_watch import JobWatch

# How long a new job's first attempt may take to be opened, before the job is confirmed by a commit of its own.
FIRST_ATTEMPT_TIMEOUT_SECONDS = 0.05
# How often it is looked whether a caller has asked again, where nothing is heard of it.
CONFIRMATION_POLL_SECONDS = 2.0


class JobConfirmer:
    """One job's."""

    def __init__(self, job_context: JobContext) -> None:
        self._job_context = job_context

    async def confirm(self) -> None:
        """When this returns, it is saved that the job is to be bought, unless the job has ended or is owned elsewhere:
        `is_confirmed` shows that. An attempt that is just being opened says so."""
        with JobWatch(self._job_context.engine_context.job_watchers, self._job_context.job.id) as watch:
            if not self._job_context.job.is_confirmed:
                await watch.wait_for_change(FIRST_ATTEMPT_TIMEOUT_SECONDS)
        if not self._job_context.job.is_confirmed:
            await self._job_context.mailbox.post(JobConfirmed())

    async def wait_for_client_retry(self, until: float) -> None:
        """Whichever process the caller asks again confirms the job, here or in the store."""
        context = self._job_context.engine_context
        with context.store.watch(self._job_context.job.id) as watch:
            while not self._job_context.job.is_confirmed and (remaining_seconds := until - context.wall_clock()) > 0:
                with contextlib.suppress(StoreUnavailable):
                    saved_job = await context.store.load_job(self._job_context.job.id)
                    if saved_job is not None and saved_job.is_confirmed:
                        await self._job_context.mailbox.post(JobConfirmed())
                        return
                await watch.wait_for_change(min(remaining_seconds, CONFIRMATION_POLL_SECONDS))
