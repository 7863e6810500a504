"""`image-gateway audit` on a store with and without discrepancies."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.store.base import Applied
from gateway.store.sqlite import SqliteStore
from tests.store import job_factory
from tests.unit.config.sample_config import write_config


def run_audit(folder: Path, *arguments: str) -> Result:
    options = ["audit", "--config", str(folder / "config"), "--data", str(folder), *arguments]
    return CliRunner().invoke(main, options, env={"REDIS_URL": None, "IGW_CONFIG": None})


def create_job(folder: Path) -> str:
    write_config(folder / "config")
    commit = job_factory.make_create_commit(job_factory.NOON)

    async def scenario() -> None:
        store = await SqliteStore(folder / "gateway.db").open()
        assert await store.commit(commit) == Applied()
        await store.close()

    asyncio.run(scenario())
    return commit.job.id


def delete_due_time(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "gateway.db")) as connection:
        connection.execute("DELETE FROM due")
        connection.commit()


def test_correct_store_has_no_discrepancies(tmp_path: Path) -> None:
    create_job(tmp_path)
    result = run_audit(tmp_path)
    assert (result.exit_code, result.output) == (0, "no discrepancies\n")


def test_discrepancies_are_shown_and_repaired_only_on_request(tmp_path: Path) -> None:
    job_id = create_job(tmp_path)
    delete_due_time(tmp_path)
    for _ in range(2):
        result = run_audit(tmp_path)
        assert result.exit_code == 1
        assert f"partition 0: {job_id} is open and not due\n1 discrepancies" in result.output
    result = run_audit(tmp_path, "--repair")
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "repaired 1 discrepancies")
    assert run_audit(tmp_path).output == "no discrepancies\n"


def test_store_of_a_running_gateway_is_refused(tmp_path: Path) -> None:
    create_job(tmp_path)

    async def scenario() -> Result:
        store = await SqliteStore(tmp_path / "gateway.db").open()
        try:
            return await asyncio.to_thread(run_audit, tmp_path)
        finally:
            await store.close()

    result = asyncio.run(scenario())
    assert result.exit_code == 1
    assert "is in use by process" in result.output


def test_invalid_configuration_is_refused(tmp_path: Path) -> None:
    create_job(tmp_path)
    (tmp_path / "config" / "gateway.yaml").write_text("unknown: 1")
    result = run_audit(tmp_path)
    assert result.exit_code == 1
    assert "Run image-gateway check" in result.output


@pytest.mark.parametrize(
    "command", [("audit",), ("cancel-open",), ("cancel-open", "--yes"), ("ledger",), ("reconcile", "by-shape")]
)
def test_missing_database_is_an_error_and_is_not_created(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Otherwise a command in the wrong folder would report that a new, empty store is in order."""
    write_config(tmp_path / "config")
    (tmp_path / "invoice.csv").write_text("order,amount\nx,1.00\n")
    period = ("--since", "2026-11-01", "--until", "2026-11-30")
    invoice = ("--invoice", str(tmp_path / "invoice.csv"), *period) if command[0] == "reconcile" else ()
    options = [*command, *invoice, "--config", str(tmp_path / "config"), "--data", str(tmp_path / "var")]
    result = CliRunner().invoke(main, options, env={"REDIS_URL": None, "IGW_CONFIG": None, "IGW_URL": None})
    assert result.exit_code == 1
    assert f"{tmp_path / 'var' / 'gateway.db'} does not exist. Name the gateway's folder" in result.output
    assert not (tmp_path / "var").exists()
