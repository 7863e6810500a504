"""A database whose documents and milestones have the ids of their jobs: each job keeps its own."""

from pathlib import Path

import pytest

from gateway.store.sqlite import SqliteStore
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory
from tests.store.job_factory import NOON
from tests.store.sqlite.sqlite_stores import run_with_store
from tests.store.sqlite.undone_migrations import undo_migrations

FORMER_SCHEMA = 6


@pytest.mark.parametrize("is_former", [False, True])
def test_each_job_keeps_its_documents_and_milestones(path: Path, is_former: bool) -> None:
    commits = [
        job_factory.make_create_commit(NOON, documents={"request": b"%d" % number, "order_terms": b"%d" % -number})
        for number in range(1, 4)
    ]

    async def create_jobs(store: SqliteStore) -> None:
        for commit in commits:
            await store.commit(commit)
        started = job_factory.make_attempt_started(commits[1].job)
        await store.commit(job_factory.make_update_commit(commits[1].job, started, NOON))

    async def expect_all(store: SqliteStore) -> None:
        for number, commit in enumerate(commits, 1):
            documents = await store.load_documents(commit.job.id, "request", "order_terms", "other")
            assert documents == {"request": b"%d" % number, "order_terms": b"%d" % -number}
            milestones = await store.list_milestones(commit.job.id)
            assert [milestone.name for milestone in milestones] == ["queued", "in_progress"][: 1 + (number == 2)]

    async def delete_first_job(store: SqliteStore) -> None:
        await store.delete_job(commits[0].job.id)
        assert await store.load_documents(commits[0].job.id, "request") == {}
        assert await store.list_milestones(commits[0].job.id) == ()
        assert await store.load_documents(commits[1].job.id, "request") == {"request": b"2"}

    clock = ManualClock(NOON)
    run_with_store(path, create_jobs, clock=clock)
    if is_former:
        undo_migrations(path, FORMER_SCHEMA)
    run_with_store(path, expect_all, clock=clock)
    run_with_store(path, delete_first_job, clock=clock)
