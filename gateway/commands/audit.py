"""`image-gateway audit`: recomputes what is derived from jobs and ledger, and compares it with what is stored."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import click

from gateway.commands.config_helpers import CONFIG_HELP
from gateway.commands.configured_store import load_valid_catalogue, make_existing_store
from gateway.settings import SettingsError, load_settings
from gateway.store.audit import AuditReport
from gateway.store.base import Store, StoreError


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help=CONFIG_HELP)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of SQLite.")
@click.option("--repair", is_flag=True, help="Repair the discrepancies. Without this option, nothing is changed.")
def audit(config: Path | None, data: Path | None, repair: bool) -> None:
    """Check that budgets, totals and the lists of due and open jobs agree with the jobs and the ledger.

    The exit code is 1 if there is any discrepancy that is not repaired. The gateway does the same by itself: soon after
    its start, every hour, and after each restart of Redis. SQLite belongs to one process: stop the gateway first. With
    Redis, set the same environment variables as for `serve`.
    """
    try:
        discrepancies = asyncio.run(_audit_store(_make_store(config, data), repair))
    except (SettingsError, StoreError) as error:
        raise click.ClickException(str(error)) from None
    if not discrepancies:
        click.echo("no discrepancies")
    elif repair:
        click.echo(f"repaired {discrepancies} discrepancies")
    else:
        click.echo(f"{discrepancies} discrepancies. Repair them with --repair")
        raise SystemExit(1)


def _make_store(config: Path | None, data: Path | None) -> Store:
    settings = load_settings(os.environ, config=config, data=data)
    return make_existing_store(settings, load_valid_catalogue(settings))


async def _audit_store(store: Store, repair: bool) -> int:
    """Audits all partitions and prints their discrepancies. Returns how many there are."""
    await store.open()
    try:
        return sum([report.discrepancy_count async for report in _audit_partitions(store, repair)])
    finally:
        await store.close()


async def _audit_partitions(store: Store, repair: bool) -> AsyncIterator[AuditReport]:
    for partition in store.partitions:
        report = await store.audit(partition, repair)
        for line in report.describe():
            click.echo(f"partition {partition}: {line}")
        yield report
