"""Whether a job's caller counts on it: then it is bought, whatever becomes of the process that accepted it."""

import contextlib

from gateway.engine.desk import Desk
from gateway.jobs.facts import JobConfirmed
from gateway.store.base import StoreUnavailable
from gateway.store.watching import Watch

# How long a new job's first attempt may take to be opened, before the job is confirmed by a commit of its own.
OPENING_SECONDS = 0.05
# How often it is looked whether a caller has asked again, where nothing is heard of it.
LOOK_SECONDS = 2.0


class Confirmation:
    """One job's."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def save(self) -> None:
        """When this returns, it is saved that the job is to be bought, unless the job has ended or is owned elsewhere:
        `is_confirmed` shows that. An attempt that is just being opened says so."""
        with Watch(self._desk.hands.waiting, self._desk.job.id) as watch:
            if not self._desk.job.is_confirmed:
                await watch.changed(OPENING_SECONDS)
        if not self._desk.job.is_confirmed:
            await self._desk.mailbox.post(JobConfirmed())

    async def await_caller(self, until: float) -> None:
        """Whichever process the caller asks again confirms the job, here or in the store."""
        hands = self._desk.hands
        with hands.store.watch(self._desk.job.id) as watch:
            while not self._desk.job.is_confirmed and (left := until - hands.now()) > 0:
                with contextlib.suppress(StoreUnavailable):
                    saved = await hands.store.load(self._desk.job.id)
                    if saved is not None and saved.is_confirmed:
                        await self._desk.mailbox.post(JobConfirmed())
                        return
                await watch.changed(min(left, LOOK_SECONDS))
