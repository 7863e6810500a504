"""Open jobs are counted by team and by API key, until they end."""

from msgspec.structs import replace

from gateway.engine.open_job_counter import OpenJobCounter
from gateway.jobs.job import Job, JobState
from tests.store.job_factory import NOON, make_create_commit


def make_job(team: str = "acme", key_id: str = "a") -> Job:
    return make_create_commit(NOON, team, key_id=key_id).job


def test_jobs_are_counted_by_team_and_key() -> None:
    open_jobs = OpenJobCounter()
    for job in (make_job(), make_job(key_id="b"), make_job("another", "c"), make_job(key_id="")):
        open_jobs.add(job)
    names = ("team:acme", "team:another", "key:a", "key:b", "key:c", "key:", "team:unknown")
    assert [open_jobs.count(name) for name in names] == [3, 1, 1, 1, 1, 0, 0]


def test_job_counts_once_until_it_ends() -> None:
    """Its worker may be started again, and its end may be seen twice: when it ends, and when its worker does."""
    open_jobs, job = OpenJobCounter(), make_job()
    open_jobs.add(job)
    open_jobs.add(job)
    assert open_jobs.count("team:acme") == 1
    open_jobs.remove(job.id)
    open_jobs.remove(job.id)
    assert open_jobs.count("team:acme") == 0


def test_job_of_a_batch_is_not_counted() -> None:
    """The line that waits for it counts it."""
    open_jobs = OpenJobCounter()
    open_jobs.add(replace(make_job(), batch_id="batch_1"))
    assert open_jobs.count("team:acme") == 0


def test_job_that_has_ended_is_not_added() -> None:
    """A worker that books its late orders still runs."""
    open_jobs = OpenJobCounter()
    open_jobs.add(replace(make_job(), state=JobState.FAILED))
    assert open_jobs.count("team:acme") == 0
