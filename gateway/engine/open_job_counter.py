"""Counts the jobs of this process that have not ended, by team and by API key. Jobs of batches are counted with the
lines of their batches."""

from collections import Counter

from gateway.jobs.job import Job


class OpenJobCounter:
    """The jobs that this process works on and that have not ended for their team, without those of batches."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[str, ...]] = {}
        self._counts = Counter[str]()

    def add(self, job: Job) -> None:
        """Adds a job unless it has ended or belongs to a batch. Adding it again changes nothing."""
        if job.state.is_terminal or job.batch_id or job.id in self._owners:
            return
        self._owners[job.id] = owners = list_job_owners(job)
        self._counts.update(owners)

    def remove(self, job_id: str) -> None:
        for owner in self._owners.pop(job_id, ()):
            self._counts[owner] -= 1
            if not self._counts[owner]:
                del self._counts[owner]

    def count(self, owner: str) -> int:
        """Counts the jobs of `team:<name>` or `key:<id>`."""
        return self._counts.get(owner, 0)


def list_job_owners(job: Job) -> tuple[str, ...]:
    return (f"team:{job.team}", f"key:{job.key_id}") if job.key_id else (f"team:{job.team}",)
