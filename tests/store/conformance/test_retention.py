"""Retention of a job starts when it is settled, that of a ledger entry on its day. Open jobs are never deleted."""

from msgspec.structs import replace

from gateway.jobs.document_names import list_prompt_document_names
from gateway.jobs.job import DEFAULT_JOB_RETENTION, JobRetention
from gateway.jobs.job_update_types import CancelRequested, JobContentDeleted, RetentionEnded
from gateway.store.base import DAY_SECONDS, Retention
from gateway.store.job_pages import JobPage
from gateway.store.ledger_totals import BudgetBalance
from tests.store.job_factory import (
    CEILING,
    DAY,
    MONTH,
    PRICE,
    make_attempt_started,
    make_images_stored,
    make_ticket_received,
    make_update_commit,
    parse_utc_time,
)
from tests.store.store_harness import StoreHarness

DEFAULT_RETENTION = Retention()


def test_default_retention_is_a_week_a_quarter_and_a_year() -> None:
    assert (DEFAULT_JOB_RETENTION.job_seconds, DEFAULT_RETENTION.ledger, DEFAULT_RETENTION.totals) == (
        7 * DAY_SECONDS,
        90 * DAY_SECONDS,
        396 * DAY_SECONDS,
    )


async def delete_old_data(harness: StoreHarness) -> int:
    """Deletes old data as the engine does. Returns the number of deleted jobs."""
    job_ids = await harness.store.list_jobs_to_clean_up()
    for job_id in job_ids:
        await harness.store.delete_job(job_id)
        await harness.store.delete_job(job_id)
    assert await harness.store.list_jobs_to_clean_up() == ()
    await harness.store.delete_expired()
    return len(job_ids)


async def test_nothing_is_deleted_from_a_new_store(harness: StoreHarness) -> None:
    assert await delete_old_data(harness) == 0


async def test_settled_job_is_kept_for_a_week_with_its_data(harness: StoreHarness) -> None:
    job = await harness.create_settled_job(documents={"request": b"{}"})
    harness.advance_time(7 * DAY_SECONDS - 1)
    assert await delete_old_data(harness) == 0
    assert await harness.store.load_job(job.id) == job
    assert await harness.store.load_documents(job.id, "request") == {"request": b"{}"}
    assert len(await harness.store.list_milestones(job.id)) == 4
    assert await harness.store.list_jobs("acme") == JobPage((job,), None)


async def test_deleted_job_leaves_only_its_money(harness: StoreHarness) -> None:
    job = await harness.create_settled_job(documents={"request": b"{}"})
    harness.advance_time(7 * DAY_SECONDS + 1)
    assert await delete_old_data(harness) == 1
    assert await harness.store.load_job(job.id) is None
    assert await harness.store.load_documents(job.id, "request") == {}
    assert await harness.store.list_milestones(job.id) == ()
    assert await harness.store.list_jobs("acme") == JobPage((), None)
    assert (await harness.store.load_balances("acme", DAY))[DAY].spent == PRICE
    assert [entry.job for entry in await harness.store.list_ledger_entries(DAY)] == [job.id]


async def test_retention_starts_when_the_job_is_settled(harness: StoreHarness) -> None:
    job = await harness.create_job()
    harness.advance_time(6 * DAY_SECONDS)
    job = await harness.apply_updates(job, CancelRequested())
    harness.advance_time(6 * DAY_SECONDS)
    await delete_old_data(harness)
    assert await harness.store.load_job(job.id) == job


async def test_late_fact_does_not_extend_the_retention_of_a_settled_job(harness: StoreHarness) -> None:
    job = await harness.create_job()
    job = await harness.apply_updates(job, make_attempt_started(job), make_images_stored(job))
    assert job.is_settled
    harness.advance_time(6 * DAY_SECONDS)
    late_job = await harness.apply_updates(job, make_ticket_received())
    assert await harness.store.load_job(job.id) == late_job
    harness.advance_time(DAY_SECONDS + 1)
    assert await delete_old_data(harness) == 1
    assert await harness.store.load_job(job.id) is None


async def test_late_fact_does_not_shorten_the_retention_of_a_settled_job(harness: StoreHarness) -> None:
    job = await harness.create_job()
    job = await harness.apply_updates(job, make_attempt_started(job), make_images_stored(job))
    harness.advance_time(1.0)
    job = await harness.apply_updates(job, make_ticket_received())
    harness.advance_time(7 * DAY_SECONDS - 2)
    assert await delete_old_data(harness) == 0
    assert await harness.store.load_job(job.id) == job
    assert len(await harness.store.list_milestones(job.id)) == 4


async def test_open_job_is_never_deleted(harness: StoreHarness) -> None:
    job = await harness.create_job(documents={"request": b"{}"})
    harness.advance_time(400 * DAY_SECONDS)
    assert await delete_old_data(harness) == 0
    assert await harness.store.load_job(job.id) == job
    assert await harness.store.load_documents(job.id, "request") == {"request": b"{}"}
    assert await harness.claim_job_ids() == {job.id}


async def test_pages_skip_deleted_jobs(harness: StoreHarness) -> None:
    for _ in range(3):
        await harness.create_settled_job()
    harness.advance_time(4 * DAY_SECONDS)
    kept_jobs = [await harness.create_settled_job()]
    harness.advance_time(1.0)
    kept_jobs.insert(0, await harness.create_settled_job())
    harness.advance_time(4 * DAY_SECONDS)
    await delete_old_data(harness)
    page = await harness.store.list_jobs("acme", 1)
    rest = await harness.store.list_jobs("acme", 5, page.next_position)
    assert [*page.jobs, *rest.jobs] == kept_jobs
    assert rest.next_position is None


async def test_ledger_is_kept_for_a_quarter_and_totals_for_a_year(harness: StoreHarness) -> None:
    await harness.create_settled_job()
    harness.advance_time(89 * DAY_SECONDS)
    await delete_old_data(harness)
    assert len(await harness.store.list_ledger_entries(DAY)) == 1
    harness.advance_time(40 * DAY_SECONDS)
    await delete_old_data(harness)
    assert await harness.store.list_ledger_entries(DAY) == ()
    assert [total.amount for total in await harness.store.list_day_totals(DAY, DAY)] == [PRICE]
    assert (await harness.store.load_balances("acme", MONTH))[MONTH] == BudgetBalance(spent=PRICE)
    harness.advance_time(266 * DAY_SECONDS)
    await delete_old_data(harness)
    assert [total.amount for total in await harness.store.list_day_totals(DAY, DAY)] == [PRICE]
    harness.advance_time(60 * DAY_SECONDS)
    await delete_old_data(harness)
    assert await harness.store.list_day_totals(DAY, DAY) == ()
    # Lifetime budgets are the sums of months.
    balances = await harness.store.load_balances("acme", DAY, MONTH)
    assert balances == {DAY: BudgetBalance(), MONTH: BudgetBalance(spent=PRICE)}


async def test_announced_job_that_was_never_created_becomes_deletable(harness: StoreHarness) -> None:
    await harness.store.announce_job(announced := harness.make_create_commit().job.id, 3_600.0)
    harness.advance_time(3_599.0)
    assert await harness.store.list_jobs_to_clean_up() == ()
    harness.advance_time(2.0)
    assert await harness.store.list_jobs_to_clean_up() == (announced,)
    assert await delete_old_data(harness) == 1


async def test_announced_job_that_was_created_is_kept(harness: StoreHarness) -> None:
    commit = harness.make_create_commit()
    await harness.store.announce_job(commit.job.id, 3_600.0)
    job = await harness.apply_commit(commit)
    harness.advance_time(4_000.0)
    assert await harness.store.list_jobs_to_clean_up() == ()
    job = await harness.apply_updates(job, CancelRequested())
    harness.advance_time(7 * DAY_SECONDS - 1)
    assert await delete_old_data(harness) == 0
    assert await harness.store.load_job(job.id) == job
    harness.advance_time(2.0)
    assert await delete_old_data(harness) == 1


async def test_announcement_survives_a_refusal_and_causes_no_discrepancy(harness: StoreHarness) -> None:
    refused = harness.make_create_commit(day=1)
    await harness.store.announce_job(refused.job.id, 3_600.0)
    await harness.commit_without_effect(refused)
    for partition in harness.store.partitions:
        assert (await harness.store.audit(partition)).discrepancy_count == 0
    assert await harness.claim_job_ids() == set()
    harness.advance_time(3_601.0)
    assert await delete_old_data(harness) == 1


async def test_retention_is_configurable(harness: StoreHarness) -> None:
    store = await harness.reopen(retention=Retention(ledger=2 * DAY_SECONDS, totals=3 * DAY_SECONDS))
    job = await harness.create_settled_job(retention=JobRetention(60.0, 60.0, 60.0))
    harness.advance_time(61.0)
    await delete_old_data(harness)
    assert await store.load_job(job.id) is None
    assert len(await store.list_ledger_entries(DAY)) == 1


async def test_deletion_causes_no_audit_discrepancies(harness: StoreHarness) -> None:
    for _ in range(3):
        await harness.create_settled_job()
        await harness.create_job()
        harness.advance_time(40 * DAY_SECONDS)
        await harness.store.delete_expired()
        for partition in harness.store.partitions:
            assert (await harness.store.audit(partition)).discrepancy_count == 0
    assert (await harness.store.load_balances("acme", DAY))[DAY] == BudgetBalance(held=CEILING, spent=PRICE)


async def test_days_of_the_current_month_are_kept_despite_short_retention(harness: StoreHarness) -> None:
    """The audit compares the month's sum with its days: without them, the sum would be a discrepancy."""
    harness.clock.now = parse_utc_time("2040-05-03T12:00:00")
    store = await harness.reopen(retention=Retention(ledger=DAY_SECONDS, totals=3 * DAY_SECONDS))
    await harness.create_settled_job()
    harness.advance_time(20 * DAY_SECONDS)
    await store.delete_expired()
    for partition in store.partitions:
        assert (await store.audit(partition)).discrepancy_count == 0
    assert (await store.load_balances("acme", "2040-05"))["2040-05"] == BudgetBalance(spent=PRICE)
    assert [total.amount for total in await store.list_day_totals("2040-05-01", "2040-05-31")] == [PRICE]


async def test_job_deleted_by_its_team_leaves_what_books_late_facts(harness: StoreHarness) -> None:
    documents = {"request": b'{"prompt": "secret"}', "image.1.0": b"{}"}
    job = await harness.create_job(documents=documents, labels=("secret",))
    job = await harness.apply_updates(job, make_attempt_started(job), make_images_stored(job))
    commit = make_update_commit(job, JobContentDeleted(), harness.now)
    deleted = await harness.apply_commit(replace(commit, removed_documents=tuple(documents)))
    assert await harness.store.load_job(job.id) == deleted
    assert await harness.store.load_documents(job.id, *documents) == {}
    assert await harness.store.list_jobs("acme") == JobPage((), None)
    if harness.store_kind != "memory":
        # The store of tests keeps all commits.
        assert "secret" not in str(harness.raw_store.dump_everything())
    assert (await harness.store.load_balances("acme", DAY))[DAY].spent == PRICE
    assert (await harness.store.audit(harness.store.partitions[0], repair=False)).discrepancy_count == 0
    await harness.apply_updates(deleted, make_ticket_received())
    harness.advance_time(7 * DAY_SECONDS + 1)
    assert await delete_old_data(harness) == 1
    assert await harness.store.load_job(job.id) is None


SECRET_PROMPT = b"a heron made of glass"
PROMPT_DOCUMENTS = {"request": b"{}", "prompt": SECRET_PROMPT, "call.1": b"POST " + SECRET_PROMPT}


def is_prompt_stored(harness: StoreHarness) -> bool:
    """Searches all values. The store of tests keeps all commits, so only its documents are searched."""
    dump = harness.raw_store.dump_everything()
    return SECRET_PROMPT.decode() in str(dump)


async def test_job_without_prompt_retention_leaves_none_when_it_is_settled(harness: StoreHarness) -> None:
    job = await harness.create_job(documents=PROMPT_DOCUMENTS, retention=JobRetention(prompt_seconds=0.0))
    job = await harness.apply_updates(job, make_attempt_started(job), make_ticket_received())
    assert await harness.store.load_documents(job.id, *PROMPT_DOCUMENTS) == PROMPT_DOCUMENTS
    job = await harness.apply_updates(job, make_images_stored(job))
    assert job.has_deleted_prompt
    assert await harness.store.load_documents(job.id, *PROMPT_DOCUMENTS) == {"request": b"{}"}
    assert harness.store_kind == "memory" or not is_prompt_stored(harness)
    assert await harness.store.list_jobs_to_clean_up() == ()


async def test_prompt_and_images_are_listed_for_deletion_before_their_job(harness: StoreHarness) -> None:
    """Each step is listed when it is due, and not after its commit."""
    job = await harness.create_settled_job(
        documents=PROMPT_DOCUMENTS,
        retention=JobRetention(job_seconds=300.0, image_seconds=200.0, prompt_seconds=100.0),
    )
    for fact in (RetentionEnded(prompt=True), RetentionEnded(images=True)):
        harness.advance_time(99.0)
        assert await harness.store.list_jobs_to_clean_up() == ()
        harness.advance_time(1.0)
        assert await harness.store.list_jobs_to_clean_up() == (job.id,)
        commit = make_update_commit(job, fact, harness.now)
        removed = list_prompt_document_names(job) if fact.prompt else ()
        job = await harness.apply_commit(replace(commit, removed_documents=removed))
        assert await harness.store.list_jobs_to_clean_up() == ()
    assert (job.has_deleted_prompt, job.has_deleted_images) == (True, True)
    assert harness.store_kind == "memory" or not is_prompt_stored(harness)
    harness.advance_time(100.0)
    assert await delete_old_data(harness) == 1
    assert await harness.store.load_job(job.id) is None


async def test_team_may_keep_its_jobs_longer_or_shorter(harness: StoreHarness) -> None:
    short = await harness.create_settled_job("acme", retention=JobRetention(60.0, 60.0, 60.0))
    usual = await harness.create_settled_job("beta")
    long = await harness.create_settled_job("gamma", retention=JobRetention(*[60 * DAY_SECONDS] * 3))
    harness.advance_time(61.0)
    assert await harness.store.list_jobs_to_clean_up() == (short.id,)
    assert await delete_old_data(harness) == 1
    harness.advance_time(8 * DAY_SECONDS)
    assert await harness.store.list_jobs_to_clean_up() == (usual.id,)
    assert await delete_old_data(harness) == 1
    harness.advance_time(40 * DAY_SECONDS)
    assert await delete_old_data(harness) == 0
    assert await harness.store.load_job(long.id) == long
    assert await harness.store.list_jobs("gamma") == JobPage((long,), None)
