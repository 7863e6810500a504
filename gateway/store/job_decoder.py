"""Decodes stored jobs, and records those that this version cannot read."""

import msgspec

from gateway.jobs.commit import decode_job
from gateway.jobs.job import Job
from gateway.store.base import StoreError


class JobDecoder:
    """Decodes stored jobs. Jobs of a newer version that this one cannot read are left unchanged."""

    def __init__(self) -> None:
        self.unreadable: set[str] = set()

    def decode(self, job_id: str, encoded_job: bytes) -> Job:
        """Decodes one job. Raises StoreError if this version cannot read it."""
        if (job := self.try_decode(job_id, encoded_job)) is None:
            raise StoreError(
                f"Job {job_id} was written by a newer version and cannot be read by this version. "
                "Start the newer version."
            )
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
        count = len(self.unreadable)
        return (
            f"{count} jobs were written by a newer version and are ignored by this one ({examples}). "
            "Start the newer version to process them.",
        )
