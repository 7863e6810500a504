"""The jobs for which a gateway process is spared: each lost so many workers in a row that it would wait for minutes.

The store doubles the lease of each next worker. In a real fleet, only a job that itself kills its workers loses more of
them, and has tests of its own (`tests/chaos/test_crash_loops.py`)."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from gateway.jobs.next_actions import MAX_RECLAIMS_WITHOUT_PROGRESS
from gateway.store.base import ClaimedJob, min_survival_seconds

# The claim at which the gateway abandons a job. The lease before it is four times the usual one.
MIN_SPARED_RECLAIMS = MAX_RECLAIMS_WITHOUT_PROGRESS


class SparedJobs:
    """Written by the process that works on the jobs, and read by the one that kills. A job is spared until it has
    progressed, or until its worker has lived for so long that the store takes the job for harmless. Times are those of
    the monotonic clock, which all processes of a machine share."""

    def __init__(self, path: Path, lease_seconds: float, read_clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._lease_seconds, self._read_clock = path, lease_seconds, read_clock
        self._ends: dict[str, float] = {}

    @property
    def has_any(self) -> bool:
        return any(end > self._read_clock() for end in self._ends.values())

    def add_claimed(self, claimed_jobs: Iterable[ClaimedJob]) -> None:
        spared = [claimed_job for claimed_job in claimed_jobs if claimed_job.reclaims >= MIN_SPARED_RECLAIMS]
        for claimed_job in spared:
            # The store looks at each renewal, of which there are several in a lease.
            survival_seconds = min_survival_seconds(claimed_job.max_owned_seconds, self._lease_seconds)
            self._ends[claimed_job.job.id] = self._read_clock() + survival_seconds + self._lease_seconds
        if spared:
            self._write()

    def remove(self, job_id: str) -> None:
        if self._ends.pop(job_id, None) is not None:
            self._write()

    def _write(self) -> None:
        """Replaces the whole file at once: it is read at any moment."""
        new_path = self._path.with_suffix(".new")
        new_path.write_text(repr(max(self._ends.values(), default=0.0)))
        new_path.replace(self._path)


def read_spared_until(path: Path) -> float:
    """Returns when the process that writes this file may be killed again; 0 if it has never been spared."""
    return float(path.read_text()) if path.exists() else 0.0
