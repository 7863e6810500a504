"""Saved jobs as this version reads them."""

import msgspec

from gateway.jobs.commit import decode_job
from gateway.jobs.job import Job
from gateway.store.base import StoreError


class JobDecoder:
    """Reads saved jobs, and remembers which it could not: a newer version may have written what this one cannot know.

    They stay as they are until a version comes that can.
    """

    def __init__(self) -> None:
        self.unreadable: set[str] = set()

    def decode(self, job_id: str, encoded_job: bytes) -> Job:
        """StoreError if this version cannot."""
        if (job := self.try_decode(job_id, encoded_job)) is None:
            raise StoreError(f"{job_id} cannot be read by this version")
        return job

    def try_decode(self, job_id: str, encoded_job: bytes) -> Job | None:
        try:
            return decode_job(encoded_job)
        except msgspec.MsgspecError:
            self.unreadable.add(job_id)
            return None

    @property
    def warnings(self) -> tuple[str, ...]:
        if not self.unreadable:
            return ()
        examples = ", ".join(sorted(self.unreadable)[:3])
        return (f"this version cannot read some jobs, and leaves them alone: {len(self.unreadable)} ({examples})",)
