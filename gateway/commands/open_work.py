"""`image-gateway cancel-open`: cancels everything that a restored store would otherwise order again."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import click

from gateway.api.batches.batch_records import Batch, BatchStatus, decode_batch
from gateway.commands.config_helpers import CONFIG_HELP
from gateway.commands.configured_store import load_valid_catalogue, make_existing_store
from gateway.jobs.budgets import list_budget_windows
from gateway.jobs.commit import build_update_commit
from gateway.jobs.job import JobState
from gateway.jobs.job_update_types import CancelRequested
from gateway.jobs.transitions import Ignored
from gateway.settings import SettingsError, load_settings
from gateway.store.base import DAY_SECONDS, Applied, Store, StoreError
from gateway.store.job_pages import MAX_PAGE_JOBS, JobFilter, JobPosition
from gateway.store.team_records import MAX_PAGE_RECORDS, RecordKind, RecordPosition, encode_record

_OPEN_STATES = frozenset(state for state in JobState if not state.is_terminal)
_CANCELLABLE = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS)
# A job holds money in the month of its creation, and no job is open for longer than this.
_LONGEST_JOB_SECONDS = 28 * DAY_SECONDS


@click.command("cancel-open")
@click.option("--config", type=click.Path(path_type=Path), help=CONFIG_HELP)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of SQLite.")
@click.option("--yes", is_flag=True, help="Cancel them. Without this option, they are counted and nothing is changed.")
def cancel_open(config: Path | None, data: Path | None, yes: bool) -> None:
    """Cancel all open jobs and batches of a store, after a backup was restored.

    Orders since the backup are missing in a restored store: images that waited at the time of the backup would be
    ordered again. They are dropped. Orders that had been sent are followed to their end by the next `serve`.

    Stop every gateway first. With Redis, set the same environment variables as for `serve`.
    """
    try:
        job_count, batch_count = asyncio.run(_handle_open_work(config, data, yes))
    except (SettingsError, StoreError) as error:
        raise click.ClickException(str(error)) from None
    counts = f"{job_count} open jobs and {batch_count} open batches"
    click.echo(f"cancelled {counts}" if yes else f"found {counts}. Cancel them with --yes")


async def _handle_open_work(config: Path | None, data: Path | None, is_confirmed: bool) -> tuple[int, int]:
    """Cancels all open work if that is confirmed. Returns how many jobs and batches there are."""
    settings = load_settings(os.environ, config=config, data=data)
    catalogue = load_valid_catalogue(settings)
    store = make_existing_store(settings, catalogue)
    await store.open()
    try:
        teams = {*catalogue.teams, *await _list_teams_with_balances(store)}
        # Batches first: their replica would create more jobs.
        batches = [batch async for batch in _iterate_open_batches(store, teams)]
        job_ids = [job_id async for job_id in _iterate_open_jobs(store, teams)]
        if is_confirmed:
            for batch in batches:
                await _cancel_batch(store, batch.id)
            for job_id in job_ids:
                await _cancel_job(store, job_id)
        return len(job_ids), len(batches)
    finally:
        await store.close()


async def _list_teams_with_balances(store: Store) -> set[str]:
    """Lists teams with jobs of this and the previous month, also those that are no longer configured."""
    now = time.time()
    months = {list_budget_windows(moment)[1] for moment in (now, now - _LONGEST_JOB_SECONDS)}
    return {team for team, _ in await store.statistics.list_balances(*months)}


async def _iterate_open_batches(store: Store, teams: Iterable[str]) -> AsyncIterator[Batch]:
    for team in teams:
        position: RecordPosition | None = None
        while records := await store.team_records.list_records(RecordKind.BATCH, team, MAX_PAGE_RECORDS, position):
            for batch in map(decode_batch, records):
                if batch.status in _CANCELLABLE:
                    yield batch
            position = records[-1].position


async def _iterate_open_jobs(store: Store, teams: Iterable[str]) -> AsyncIterator[str]:
    for team in teams:
        position: JobPosition | None = None
        while True:
            page = await store.list_jobs(team, MAX_PAGE_JOBS, position, JobFilter(states=_OPEN_STATES))
            for job in page.jobs:
                if not job.is_cancel_requested:
                    yield job.id
            if (position := page.next_position) is None:
                break


async def _cancel_batch(store: Store, batch_id: str) -> None:
    while (record := await store.team_records.load(batch_id)) is not None:
        batch = decode_batch(record)
        if batch.status not in _CANCELLABLE:
            return
        cancelling = batch.with_status(BatchStatus.CANCELLING, time.time())
        if await store.team_records.save(encode_record(RecordKind.BATCH, cancelling), 0.0):
            return


async def _cancel_job(store: Store, job_id: str) -> None:
    while job := await store.load_job(job_id):
        commit = build_update_commit(job, CancelRequested(), time.time())
        if isinstance(commit, Ignored) or isinstance(await store.commit(commit), Applied):
            return
