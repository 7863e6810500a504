"""A database of the version before the statistics: its money is counted once, and its open jobs are in the backlog."""

from pathlib import Path

from gateway.store.sqlite import SqliteStore
from gateway.store.statistics import LifetimeTotal, OpenState
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory
from tests.store.job_factory import NOON, PRICE
from tests.store.sqlite.sqlite_stores import run_with_store
from tests.store.sqlite.undone_migrations import undo_migrations

FORMER_SCHEMA = 4


async def create_jobs(store: SqliteStore) -> None:
    """Creates an open job and, on two days, jobs that are settled."""
    await store.commit(job_factory.make_create_commit(NOON))
    for now in (NOON - 86_400.0, NOON):
        commit = job_factory.make_create_commit(now, n=2)
        await store.commit(commit)
        for update in (
            job_factory.make_attempt_started(commit.job),
            job_factory.make_ticket_received(),
            job_factory.make_images_stored(commit.job),
        ):
            commit = job_factory.make_update_commit(commit.job, update, now)
            await store.commit(commit)


async def expect_statistics(store: SqliteStore) -> None:
    (total,) = await store.statistics.update_lifetime_totals()
    assert total == LifetimeTotal(account=total.account, charged=4 * PRICE, charged_images=4)
    backlog = await store.statistics.read_backlog()
    assert backlog.jobs == {OpenState.QUEUED: 0, OpenState.IN_PROGRESS: 1, OpenState.ENDED: 0}


def test_money_of_an_earlier_version_is_counted_once(path: Path) -> None:
    clock = ManualClock(NOON)
    run_with_store(path, create_jobs, clock=clock)
    undo_migrations(path, FORMER_SCHEMA)
    for _ in range(2):
        run_with_store(path, expect_statistics, clock=clock)


def test_former_totals_are_counted_before_they_are_deleted(path: Path) -> None:
    clock = ManualClock(NOON)
    run_with_store(path, create_jobs, clock=clock)
    clock.now += 1_000 * 86_400.0

    async def delete_then_count(store: SqliteStore) -> None:
        await store.delete_expired()
        (total,) = await store.statistics.update_lifetime_totals()
        assert total.charged == 4 * PRICE

    run_with_store(path, delete_then_count, clock=clock)
