"""`image-gateway reconcile` shows how an invoice differs from the ledger, and changes nothing without --apply."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.commands import reconcile_command
from gateway.jobs.job_update_types import AttemptAbandoned
from gateway.store.base import DAY_SECONDS, Applied
from gateway.store.sqlite import SqliteStore
from providers.faults import FaultKind
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory
from tests.store.job_factory import DAY, NOON
from tests.unit.config.sample_config import write_config

TIMED_OUT = AttemptAbandoned(fence=1, attempt=1, fault=FaultKind.ORDER_TIMED_OUT)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The clock of the command. No order is open any more, and none can be charged later."""
    clock = ManualClock(NOON + 3 * DAY_SECONDS)
    monkeypatch.setattr(reconcile_command, "time", SimpleNamespace(time=clock))
    return clock


@pytest.fixture
def folder(tmp_path: Path, clock: ManualClock) -> Path:
    """A data folder with a job whose order was delivered, and one whose order may have been charged. Both are on the
    invoice, the second one twice."""
    write_config(tmp_path / "config")

    async def fill() -> list[str]:
        store = await SqliteStore(tmp_path / "gateway.db", clock=ManualClock(NOON)).open()
        job_ids = []
        for update in (None, TIMED_OUT):
            commit = job_factory.make_create_commit(NOON)
            assert await store.commit(commit) == Applied()
            last = update or job_factory.make_images_stored(commit.job)
            for step in (job_factory.make_attempt_started(commit.job), last):
                commit = job_factory.make_update_commit(commit.job, step, NOON)
                assert await store.commit(commit) == Applied()
            job_ids.append(commit.job.id)
        await store.close()
        return job_ids

    first, second = asyncio.run(fill())
    lines = [("run-1", first), ("run-2", second), ("run-3", second)]
    rows = [f"{order_id},{job_id}-1,0.04,1,{NOON}" for order_id, job_id in lines]
    (tmp_path / "invoice.csv").write_text("\n".join(["order_id,client_ref,amount,images,time", *rows]))
    return tmp_path


def run_command(folder: Path, *arguments: str) -> Result:
    options = ["--config", str(folder / "config"), "--data", str(folder)]
    return CliRunner().invoke(main, [*arguments, *options], env={"REDIS_URL": None, "IGW_CONFIG": None})


def reconcile(folder: Path, *arguments: str) -> Result:
    return run_command(folder, "reconcile", "runapi", "--invoice", str(folder / "invoice.csv"), *arguments)


def read_spend(folder: Path) -> tuple[str, str, str]:
    result = run_command(folder, "ledger", "--since", DAY, "--until", DAY, "--json")
    total = json.loads(result.stdout, parse_float=str)["total"]
    return total["spend"], total["orphaned"], total["suspected"]


def test_differences_are_booked_once_on_request(folder: Path) -> None:
    shown = reconcile(folder)
    assert shown.exit_code == 0, shown.output
    assert [line.split("  ")[0] for line in shown.stdout.splitlines()] == [
        "OUTCOME",
        "suspected, charged",
        "missing here",
    ]
    assert "1 matched; 1 suspected, charged; 1 missing here" in shown.stderr
    assert "charged $0.12, booked $0.04, difference $0.08" in shown.stderr
    assert "2 corrections can be booked with --apply" in shown.stderr
    assert read_spend(folder) == ("0.04", "0.00", "0.04")

    assert "booked 2 corrections" in reconcile(folder, "--apply").stderr
    assert read_spend(folder) == ("0.04", "0.08", "0.00")
    again = reconcile(folder, "--apply")
    assert (again.stdout, "3 matched" in again.stderr, "booked 0 corrections" in again.stderr) == ("", True, True)
    assert read_spend(folder) == ("0.04", "0.08", "0.00")
    events = run_command(folder, "keys", "events", "--json")
    assert [event["action"] for event in json.loads(events.stdout)] == ["ledger_corrected"]


def test_json_has_every_order(folder: Path) -> None:
    findings = json.loads(reconcile(folder, "--json").stdout)
    assert {finding["order"]: finding["outcome"] for finding in findings} == {
        "run-1": "matched",
        "run-2": "suspected, charged",
        "run-3": "missing here",
    }


def test_charges_of_the_last_day_are_not_compared(folder: Path, clock: ManualClock) -> None:
    """Their orders may still be open."""
    clock.now = NOON + 60.0
    for options in ((), ("--until", DAY)):
        result = reconcile(folder, *options)
        assert "1 matched; 1 in progress; 1 outside of the period" in result.stderr
        assert "corrections" not in result.stderr


def test_several_invoices_are_compared_as_one(folder: Path) -> None:
    header, *lines = (folder / "invoice.csv").read_text().splitlines()
    (folder / "invoice.csv").write_text("\n".join([header, *lines[:1]]))
    (folder / "second.csv").write_text("\n".join([header, *lines[1:]]))
    result = reconcile(folder, "--invoice", str(folder / "second.csv"))
    assert "1 matched; 1 suspected, charged; 1 missing here" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "text"),
    [
        (("--column", "order=Task"), 1, "no column 'Task'"),
        (("--column", "name=Task"), 2, "the fields are order, reference, amount, images, time"),
        (("--since", "soon"), 2, "is not a day"),
        (("--since", "2039-01-01"), 1, "the ledger has its entries since"),
    ],
)
def test_invalid_options_are_refused(folder: Path, arguments: tuple[str, ...], exit_code: int, text: str) -> None:
    result = reconcile(folder, *arguments)
    assert (result.exit_code, text in result.output) == (exit_code, True), result.output


def test_invoice_without_times_needs_a_period(folder: Path) -> None:
    (folder / "invoice.csv").write_text("order_id,amount\nrun-1,0.04\n")
    result = reconcile(folder)
    assert (result.exit_code, "--since and --until" in result.output) == (1, True)
    assert reconcile(folder, "--since", DAY, "--until", DAY).exit_code == 0


def test_invoice_without_a_match_is_booked_only_on_request(folder: Path) -> None:
    """It may be of another seller, or have the wrong column."""
    text = (folder / "invoice.csv").read_text().replace("client_ref", "other").replace("run-", "tx-")
    (folder / "invoice.csv").write_text(text)
    assert "The ledger has none of the orders" in reconcile(folder).stderr
    refused = reconcile(folder, "--apply")
    assert (refused.exit_code, "Nothing was booked. --allow-no-match" in refused.stderr) == (1, True)
    assert read_spend(folder) == ("0.04", "0.00", "0.04")
    assert "booked 3 corrections" in reconcile(folder, "--apply", "--allow-no-match").stderr
    assert read_spend(folder) == ("0.04", "0.12", "0.04")


def test_charges_that_may_be_of_orders_without_ids_are_refused(folder: Path) -> None:
    """The delivered order has no ticket. Without its reference it would be booked again."""
    header, first, *others = (folder / "invoice.csv").read_text().splitlines()
    order_id, _, *rest = first.split(",")
    (folder / "invoice.csv").write_text("\n".join([header, ",".join([order_id, "", *rest]), *others]))
    refused = reconcile(folder, "--apply", "--since", DAY, "--until", DAY)
    assert (refused.exit_code, "1 orders of runapi have no id of the seller" in refused.stderr) == (1, True)
    assert read_spend(folder) == ("0.04", "0.00", "0.04")


def test_unknown_seller_is_refused(folder: Path) -> None:
    result = run_command(folder, "reconcile", "runflwo", "--invoice", str(folder / "invoice.csv"), "--apply")
    assert (result.exit_code, "did you mean 'runflow'" in result.output) == (2, True), result.output
    assert read_spend(folder) == ("0.04", "0.00", "0.04")


def test_configuration_of_the_environment_is_read(folder: Path) -> None:
    """Sellers with the same account are those of the configuration that `serve` has."""
    arguments = ["reconcile", "runapi", "--invoice", str(folder / "invoice.csv"), "--data", str(folder)]
    environ = {"REDIS_URL": None, "IGW_CONFIG": str(folder / "nowhere")}
    result = CliRunner().invoke(main, arguments, env=environ)
    assert (result.exit_code, "nowhere" in result.output) == (1, True), result.output
