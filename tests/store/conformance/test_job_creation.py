"""A job's first commit: what the store contains afterwards, and who owns the job."""

import pytest
from msgspec.structs import replace

from gateway.jobs.commit import Milestone
from gateway.jobs.job import JobState
from gateway.jobs.job_update_types import CancelRequested
from gateway.store.base import FIRST_FENCE, Applied, ClaimedJob
from gateway.store.job_pages import JobPage
from gateway.store.ledger_totals import BudgetBalance
from tests.store import job_factory
from tests.store.job_factory import CEILING, DAY, MONTH
from tests.store.store_harness import LEASE_SECONDS, StoreHarness


async def test_created_job_is_loaded_unchanged(harness: StoreHarness) -> None:
    job = await harness.create_job(n=3, has_webhook=True, warnings=("a warning",), config_hash="c0ffee")
    assert await harness.store.load_job(job.id) == job
    assert await harness.store.list_jobs("acme") == JobPage((job,), None)


@pytest.mark.parametrize(
    "name",
    ["", "job", "nonsense", "job_99" + "0" * 26, "job_00" + "0" * 26, "job_0\N{ARABIC-INDIC DIGIT ONE}" + "0" * 26],
)
async def test_unknown_job_is_not_found(harness: StoreHarness, name: str) -> None:
    assert await harness.store.load_job(name) is None
    assert await harness.store.load_documents(name, "request") == {}
    assert await harness.store.list_milestones(name) == ()


async def test_jobs_of_one_team_are_separate(harness: StoreHarness) -> None:
    first, second = await harness.create_job(), await harness.create_job()
    assert await harness.store.load_job(first.id) == first
    assert await harness.store.load_job(second.id) == second


async def test_only_requested_documents_are_loaded(harness: StoreHarness) -> None:
    job = await harness.create_job(documents={"request": b"{}", "plan": b"\x00\xff", "bytes of 1": b""})
    assert await harness.store.load_documents(job.id, "plan", "bytes of 1", "never written") == {
        "plan": b"\x00\xff",
        "bytes of 1": b"",
    }
    assert await harness.store.load_documents(job.id) == {}


async def test_document_of_60_kb_is_stored_exactly(harness: StoreHarness) -> None:
    large = bytes(range(256)) * 240
    job = await harness.create_job(documents={"request": large, "plan": large[::-1]})
    assert await harness.store.load_documents(job.id, "request", "plan") == {"request": large, "plan": large[::-1]}


async def test_later_commit_adds_and_removes_documents(harness: StoreHarness) -> None:
    job = await harness.create_job(documents={"request": b"r", "plan": b"p"})
    later = replace(
        job_factory.make_update_commit(job, job_factory.make_attempt_started(job), harness.now),
        documents={"order of 1": b"o"},
        removed_documents=("plan", "no such"),
    )
    await harness.apply_commit(later)
    names = ("request", "plan", "order of 1")
    assert await harness.store.load_documents(job.id, *names) == {"request": b"r", "order of 1": b"o"}


async def test_stored_document_is_not_overwritten(harness: StoreHarness) -> None:
    job = await harness.create_job(documents={"request": b"first"})
    commit = job_factory.make_update_commit(job, job_factory.make_attempt_started(job), harness.now)
    await harness.apply_commit(replace(commit, documents={"request": b"second", "plan": b"p"}))
    assert await harness.store.load_documents(job.id, "request", "plan") == {"request": b"first", "plan": b"p"}


async def test_new_job_cannot_be_claimed_until_its_lease_ends(harness: StoreHarness) -> None:
    job = await harness.create_job()
    harness.advance_time(LEASE_SECONDS - 0.01)
    assert await harness.store.claim_jobs() == ()
    harness.advance_time(0.01)
    assert await harness.store.claim_jobs() == (ClaimedJob(job=job, fence=FIRST_FENCE + 1, reclaims=1),)


async def test_first_owner_decides_with_the_first_fence(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert (
        await harness.store.commit(
            job_factory.make_update_commit(job, job_factory.make_attempt_started(job, FIRST_FENCE), harness.now)
        )
        == Applied()
    )


async def test_new_job_has_the_milestone_queued(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert await harness.store.list_milestones(job.id) == (
        Milestone(number=1, reached_at=harness.now, name=JobState.QUEUED),
    )


async def test_new_job_holds_budget_of_the_day_and_the_month(harness: StoreHarness) -> None:
    await harness.create_job(n=2)
    await harness.create_job(n=1)
    assert await harness.store.load_balances("acme", DAY, MONTH, "2040-05-11", "2040-06") == {
        DAY: BudgetBalance(held=3 * CEILING),
        MONTH: BudgetBalance(held=3 * CEILING),
        "2040-05-11": BudgetBalance(),
        "2040-06": BudgetBalance(),
    }
    assert await harness.store.load_balances("acme") == {}


async def test_budget_may_be_used_up_to_the_micro_dollar(harness: StoreHarness) -> None:
    for _ in range(2):
        assert await harness.try_create_job(day=2 * CEILING, month=2 * CEILING) == Applied()


async def test_cancelled_job_releases_its_hold(harness: StoreHarness) -> None:
    job = await harness.apply_updates(await harness.create_job(), CancelRequested())
    assert job.state is JobState.CANCELLED
    assert await harness.store.load_balances("acme", DAY) == {DAY: BudgetBalance()}
