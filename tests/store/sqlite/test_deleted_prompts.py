"""Nothing of a deleted prompt is left in the files of a database: neither in its free pages, nor in its log."""

from pathlib import Path

from msgspec.structs import replace

from gateway.jobs.document_names import PROMPT, call_document_name, list_prompt_document_names
from gateway.jobs.job import JobRetention
from gateway.jobs.job_update_types import RetentionEnded
from gateway.store.base import DAY_SECONDS
from gateway.store.sqlite import SqliteStore
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory
from tests.store.job_factory import NOON
from tests.store.sqlite.sqlite_stores import run_with_store

SECRET = b"a heron made of glass, "
# Longer than a page, so that it also fills pages of its own.
DOCUMENTS = {PROMPT: SECRET * 500, call_document_name(1): b"POST " + SECRET * 500, "image.1.0": b"{}"}
JOB_COUNT = 20


def find_secret(path: Path) -> list[str]:
    return [file.name for file in sorted(path.parent.iterdir()) if SECRET in file.read_bytes()]


def test_deleted_prompts_leave_no_bytes(path: Path) -> None:
    """Half of the prompts are deleted by the commit that settles their job, and half a day later."""
    clock = ManualClock(NOON)

    async def create_and_delete(store: SqliteStore) -> None:
        jobs = []
        for number in range(JOB_COUNT):
            retention = JobRetention(prompt_seconds=DAY_SECONDS * (number % 2))
            commit = job_factory.make_create_commit(clock.now, documents=DOCUMENTS, retention=retention)
            await store.commit(commit)
            for update in (
                job_factory.make_attempt_started(commit.job),
                job_factory.make_ticket_received(),
                job_factory.make_images_stored(commit.job),
            ):
                commit = job_factory.make_update_commit(commit.job, update, clock.now)
                await store.commit(commit)
            jobs.append(commit.job)
        assert find_secret(path)
        clock.now += DAY_SECONDS
        late_jobs = [job for job in jobs if not job.has_deleted_prompt]
        assert sorted(await store.list_jobs_to_clean_up()) == sorted(job.id for job in late_jobs)
        for job in late_jobs:
            commit = job_factory.make_update_commit(job, RetentionEnded(prompt=True), clock.now)
            await store.commit(replace(commit, removed_documents=list_prompt_document_names(job)))
        await store.delete_expired()
        assert find_secret(path) == []
        assert await store.load_documents(jobs[0].id, *DOCUMENTS) == {"image.1.0": b"{}"}

    run_with_store(path, create_and_delete, clock=clock)
    assert find_secret(path) == []
