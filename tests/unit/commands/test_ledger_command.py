"""`image-gateway ledger` without a gateway: it reads the store, and adds up to the micro-USD."""

import asyncio
import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.jobs.job_update_types import AttemptAbandoned, JobUpdate
from gateway.store.base import Applied
from gateway.store.sqlite import SqliteStore
from providers.faults import FaultKind
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory
from tests.store.job_factory import DAY, NOON
from tests.unit.config.sample_config import write_config

TIMED_OUT = AttemptAbandoned(fence=1, attempt=1, fault=FaultKind.ORDER_TIMED_OUT)
PERIOD = ("--since", DAY, "--until", DAY)


async def commit_job(store: SqliteStore, team: str, update: JobUpdate | None = None, **changes: object) -> str:
    """Commits a job of one order: its images are delivered, unless `update` ends the order otherwise."""
    commit = job_factory.make_create_commit(NOON, team, **changes)
    updates = (
        job_factory.make_attempt_started(commit.job),
        job_factory.make_ticket_received(),
        update or job_factory.make_images_stored(commit.job, cost=33_333),
    )
    assert await store.commit(commit) == Applied()
    for step in updates:
        commit = job_factory.make_update_commit(commit.job, step, NOON)
        assert await store.commit(commit) == Applied()
    return commit.job.id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with the money of three jobs. The file `suspected` names the job whose order may be charged."""
    write_config(tmp_path / "config")

    async def fill() -> None:
        store = await SqliteStore(tmp_path / "gateway.db", clock=ManualClock(NOON)).open()
        await commit_job(store, "acme", key_id="abcdefghij")
        await commit_job(store, "design", n=2)
        (tmp_path / "suspected").write_text(await commit_job(store, "acme", TIMED_OUT))
        await store.close()

    asyncio.run(fill())
    return tmp_path


def run_ledger(folder: Path, *arguments: str) -> Result:
    options = ["ledger", *arguments, "--config", str(folder / "config"), "--data", str(folder)]
    return CliRunner().invoke(main, options, env={"REDIS_URL": None, "IGW_CONFIG": None, "IGW_URL": None})


def test_table_has_a_row_for_each_team_and_a_total(folder: Path) -> None:
    result = run_ledger(folder, *PERIOD)
    assert [line.split() for line in result.output.splitlines()] == [
        ["TEAM", "SPEND", "IMAGES", "PRICE", "PER", "IMAGE", "ORPHANED", "SUSPECTED", "EXCESS"],
        ["acme", "$0.033333", "1", "$0.033333", "$0.00", "$0.04", "$0.00"],
        ["design", "$0.033333", "2", "$0.016667", "$0.00", "$0.00", "$0.00"],
        ["total", "$0.066666", "3", "$0.022222", "$0.00", "$0.04", "$0.00"],
    ]


def test_csv_has_every_dimension_and_exact_amounts(folder: Path) -> None:
    result = run_ledger(folder, *PERIOD, "--group-by", "team,key", "--group-by", "seller,model,cell,day,hour", "--csv")
    rows = list(csv.DictReader(io.StringIO(result.output)))
    assert [(row["team"], row["key"], row["spend"], row["suspected"]) for row in rows] == [
        ("acme", "", "0.00", "0.04"),
        ("acme", "abcdefghij", "0.033333", "0.00"),
        ("design", "", "0.033333", "0.00"),
    ]
    assert {(row["seller"], row["model"], row["cell"], row["day"], row["hour"]) for row in rows} == {
        ("runapi", "gpt-image-2", "generate/1k/low", DAY, f"{DAY}T12")
    }


def test_json_is_that_of_the_api(folder: Path) -> None:
    report = json.loads(run_ledger(folder, *PERIOD, "--team", "design", "--group-by", "day", "--json").output)
    assert (report["object"], report["team"], report["group_by"]) == ("usage", "design", ["day"])
    assert [(row["day"], row["images"]) for row in report["data"]] == [(DAY, 2)]


def test_lines_list_entries_with_job_and_reason(folder: Path) -> None:
    job_id = (folder / "suspected").read_text()
    result = run_ledger(folder, *PERIOD, "--lines", "orphan,suspected")
    header, row = (line.split() for line in result.output.splitlines())
    entry = dict(zip(header, row, strict=True))
    assert (entry["LINE"], entry["AMOUNT"], entry["TEAM"]) == ("suspected", "$0.04", "acme")
    assert (entry["JOB"], entry["REASON"], entry["TICKET"]) == (job_id, FaultKind.ORDER_TIMED_OUT, "ticket-1")
    assert run_ledger(folder, *PERIOD, "--lines", "orphan").output == "no entries\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--since", "soon"), "--since must be a day"),
        (("--group-by", "people"), "--group-by must be some of team"),
        (("--lines", "capture"), "--lines 'capture' is not one of orphan, suspected, excess"),
        (("--lines", "orphan", "--group-by", "team"), "omit --group-by"),
    ],
)
def test_invalid_options_are_refused(folder: Path, arguments: tuple[str, ...], text: str) -> None:
    result = run_ledger(folder, *arguments)
    assert (result.exit_code, text in result.output) == (2, True), result.output


def test_store_of_a_running_gateway_is_refused_with_the_way_out(folder: Path) -> None:
    async def scenario() -> Result:
        store = await SqliteStore(folder / "gateway.db").open()
        try:
            return await asyncio.to_thread(run_ledger, folder)
        finally:
            await store.close()

    result = asyncio.run(scenario())
    assert (result.exit_code, "use the running gateway: --url URL" in result.output) == (1, True)
