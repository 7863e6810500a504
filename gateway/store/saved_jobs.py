"""Saved jobs as this version reads them."""

import msgspec

from gateway.jobs.commit import decode_job
from gateway.jobs.job import Job
from gateway.store.base import StoreError


class SavedJobs:
    """Reads saved jobs, and remembers which it could not: a newer version may have written what this one cannot know.

    They stay as they are until a version comes that can.
    """

    def __init__(self) -> None:
        self.unreadable: set[str] = set()

    def read(self, name: str, blob: bytes) -> Job:
        """StoreError if this version cannot."""
        if (job := self.try_to_read(name, blob)) is None:
            raise StoreError(f"{name} cannot be read by this version")
        return job

    def try_to_read(self, name: str, blob: bytes) -> Job | None:
        try:
            return decode_job(blob)
        except msgspec.MsgspecError:
            self.unreadable.add(name)
            return None

    @property
    def warnings(self) -> tuple[str, ...]:
        if not self.unreadable:
            return ()
        some = ", ".join(sorted(self.unreadable)[:3])
        return (f"this version cannot read some jobs, and leaves them alone: {len(self.unreadable)} ({some})",)
