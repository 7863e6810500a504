"""A seller that ignores idempotency keys charges orders twice: reconciliation finds what the ledger does not have."""

import csv
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.commands import reconcile_command
from gateway.store.base import DAY_SECONDS
from tests.flow.flow_config import PRICE_MICROS, RUNAPI, SECRET_ENVIRON
from tests.flow.gateway_on_store import run_gateway_on_store
from tests.flow.order_flow import OrderFlow
from tests.harness.sandbox_runner import RunningSandbox

JOB_COUNT = 4


def write_invoice(path: Path, sandbox: RunningSandbox) -> None:
    """Writes RunAPI's own list of charges, which names its tasks, and no jobs."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["order", "amount", "images", "time"])
        for charge in sandbox.list_charges("runapi"):
            charged_at = datetime.fromtimestamp(charge["at"], UTC).isoformat()
            writer.writerow([charge["id"], f"{charge['usd_micros'] / 1_000_000:.6f}", charge["images"], charged_at])


def reconcile(folder: Path, *arguments: str) -> Result:
    options = ["reconcile", RUNAPI, "--invoice", str(folder / "invoice.csv"), *arguments]
    options += ["--config", str(folder / "config"), "--data", str(folder / "data")]
    result = CliRunner().invoke(main, options, env={**SECRET_ENVIRON, "REDIS_URL": None, "IGW_URL": None})
    assert result.exit_code == 0, result.output
    return result


def test_second_charges_are_found_and_booked(
    sandbox: RunningSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_gateway_on_store("sqlite", tmp_path, sandbox) as (gateway, raw):
        flow = OrderFlow(gateway, sandbox, raw)
        sandbox.inject_fault("ignore_idempotency_key", vendor="runapi")
        for _ in range(JOB_COUNT):
            sandbox.inject_fault("reset_after", vendor="runapi", times=1)
            assert flow.order_images(RUNAPI)["status"] == "completed"
        paid = JOB_COUNT * PRICE_MICROS[RUNAPI]
        assert flow.sum_ledger_by_line() == {(RUNAPI, "capture"): paid}
        assert flow.sum_invoice_by_vendor()["runapi"] == 2 * paid
    write_invoice(tmp_path / "invoice.csv", sandbox)

    # Only then it is sure that no order is open any more.
    later = time.time() + 3 * DAY_SECONDS
    monkeypatch.setattr(reconcile_command, "time", SimpleNamespace(time=lambda: later))
    found = reconcile(tmp_path)
    assert f"{JOB_COUNT} matched; {JOB_COUNT} missing here" in found.stderr
    assert "charged $0.48, booked $0.24, difference $0.24" in found.stderr
    assert f"booked {JOB_COUNT} corrections" in reconcile(tmp_path, "--apply").stderr
    settled = reconcile(tmp_path)
    assert settled.stderr == f"{2 * JOB_COUNT} matched\ncharged $0.48, booked $0.48, difference $0.00\n"
