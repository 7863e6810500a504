"""Lists a team's jobs page by page. With a filter, a page examines a limited number of jobs, however many match."""

from collections.abc import Sequence

from msgspec import Struct

from gateway.jobs.job import Job, JobState

MAX_PAGE_JOBS = 100
# A page ends after this many jobs even if fewer match its filter than it has room for.
MAX_SCANNED_JOBS = 500
# How many jobs a filtered page loads with one call.
BATCH_JOBS = 100


class JobPosition(Struct, frozen=True):
    """The place of a job in the list of its team, which is ordered by time and then by id."""

    created_at: float
    job_id: str


class JobFilter(Struct, frozen=True, kw_only=True):
    """Selects jobs that are not deleted. None, or nothing, selects all; `labels`: the job must have all of them."""

    states: frozenset[JobState] = frozenset()
    model: str | None = None
    key_id: str | None = None
    created_since: float = 0.0
    labels: frozenset[str] = frozenset()

    def matches(self, job: Job) -> bool:
        return (
            not job.is_deleted
            and (not self.states or job.state in self.states)
            and self.model in (None, job.model)
            and self.key_id in (None, job.key_id)
            and job.created_at >= self.created_since
            and self.labels <= set(job.labels)
        )


ALL_JOBS = JobFilter()


class JobPage(Struct, frozen=True):
    """A page of jobs, newest first. `next_position`: of the last job that was examined; None on the last page."""

    jobs: tuple[Job, ...]
    next_position: JobPosition | None


class PageBuilder:
    """Builds one page from batches of a team's jobs, newest first. `page` is None until it is complete.

    `position`: of the last job that was examined. The next batch, of `batch_size` jobs, begins behind it.
    """

    def __init__(self, limit: int, after: JobPosition | None, job_filter: JobFilter) -> None:
        self._limit, self._filter = max(1, min(MAX_PAGE_JOBS, limit)), job_filter
        self.batch_size = self._limit + 1 if job_filter == ALL_JOBS else BATCH_JOBS
        self.position = after
        self.page: JobPage | None = None
        self._jobs: list[Job] = []
        self._scanned_count = 0

    def add_batch(self, batch: Sequence[tuple[JobPosition, Job | None]]) -> None:
        """Adds a batch. None stands for a job that was deleted meanwhile, or that this version cannot read."""
        for position, job in batch:
            if len(self._jobs) == self._limit or self._scanned_count == MAX_SCANNED_JOBS:
                self.page = JobPage(tuple(self._jobs), self.position)
                return
            self._scanned_count += 1
            self.position = position
            if job is not None and self._filter.matches(job):
                self._jobs.append(job)
        if len(batch) < self.batch_size:
            self.page = JobPage(tuple(self._jobs), None)
