"""`image-gateway reconcile --from-seller` compares the ledger with the charges that the seller itself lists."""

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.commands import reconcile_command
from gateway.jobs.job import order_reference
from gateway.jobs.job_update_types import AttemptAbandoned
from gateway.store.base import DAY_SECONDS, Applied
from gateway.store.sqlite import SqliteStore
from providers import ADAPTERS
from providers.faults import FaultKind
from tests.contract.adapter_driver import AdapterDriver
from tests.contract.simulated_sellers import make_order
from tests.harness.sandbox_runner import RunningSandbox
from tests.store import job_factory
from tests.unit.config.sample_config import SAMPLE_FILES, write_config

SELLER = "by-pixel"


def format_day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


ACCOUNT = "    base_url: https://runflow.example\n"
NOW = time.time()
# Yesterday to tomorrow, looked at days later: no order is open any more, and none can be charged later.
PERIOD = ("--since", format_day(NOW - DAY_SECONDS), "--until", format_day(NOW + DAY_SECONDS))


@pytest.fixture(autouse=True)
def later_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile_command, "time", SimpleNamespace(time=lambda: NOW + 3 * DAY_SECONDS))


@pytest.fixture
def folder(tmp_path: Path, sandbox: RunningSandbox) -> Path:
    """A data folder with a job whose order may have been charged, and a seller that charged it, and another order."""
    simulated = f"    base_url: {sandbox.url}/runflow\n    private: true\n"
    accounts = SAMPLE_FILES["accounts.yaml"].replace(ACCOUNT, simulated)
    write_config(tmp_path / "config", {**SAMPLE_FILES, "accounts.yaml": accounts})
    route_entry = job_factory.ROUTE_ENTRY.__class__(SELLER, *_list_entry_values()[1:])
    commit = job_factory.make_create_commit(NOW, route=(route_entry,), max_attempts=1)
    references = (order_reference(commit.job.id, 1), "of-another-client")
    driver = AdapterDriver(ADAPTERS["runflow_runs"], sandbox)
    for reference in references:
        driver.submit_and_poll(make_order(driver.adapter, reference=reference))

    async def fill() -> None:
        store = await SqliteStore(tmp_path / "gateway.db").open()
        last = commit
        assert await store.commit(last) == Applied()
        for update in (
            job_factory.make_attempt_started(last.job),
            AttemptAbandoned(fence=1, attempt=1, fault=FaultKind.RESPONSE_LOST),
        ):
            last = job_factory.make_update_commit(last.job, update, NOW)
            assert await store.commit(last) == Applied()
        await store.close()

    asyncio.run(fill())
    return tmp_path


def _list_entry_values() -> list[object]:
    return [getattr(job_factory.ROUTE_ENTRY, name) for name in job_factory.ROUTE_ENTRY.__struct_fields__]


def reconcile(folder: Path, *arguments: str, key: str = "rf_sandbox") -> Result:
    options = ["--from-seller", *arguments, "--config", str(folder / "config"), "--data", str(folder)]
    environ = {"RUNFLOW_KEY": key, "RUNAPI_KEY": "unused", "REDIS_URL": None, "IGW_CONFIG": None}
    return CliRunner().invoke(main, ["reconcile", *options], env=environ)


@pytest.mark.parametrize("name", [SELLER, "runflow"])
def test_charges_of_the_seller_or_account_are_booked(folder: Path, sandbox: RunningSandbox, name: str) -> None:
    charged = {charge["id"]: charge["usd"] for charge in sandbox.list_charges()}
    result = reconcile(folder, name, *PERIOD, "--apply", "--json")
    findings = {finding["order"]: finding for finding in json.loads(result.stdout)}
    assert {order: finding["charged"] for order, finding in findings.items()} == charged
    assert sorted(finding["outcome"] for finding in findings.values()) == ["missing here", "suspected, charged"]
    assert "booked 2 corrections" in result.stderr
    assert "2 matched" in reconcile(folder, name, *PERIOD, "--apply").stderr
    assert len(sandbox.list_charges()) == 2, "listing charges is free"


@pytest.mark.parametrize(
    ("arguments", "key", "text"),
    [
        ((SELLER, *PERIOD), "wrong", "by-pixel did not list its charges (invalid_key). Use --invoice."),
        (("by-shape", *PERIOD), "rf_sandbox", "by-shape has no route that lists charges. Use --invoice."),
        (
            ("by-pixle", *PERIOD),
            "rf_sandbox",
            "'by-pixle' is not a configured seller or account; did you mean 'by-pixel'",
        ),
        ((SELLER,), "rf_sandbox", "--from-seller needs --since"),
        ((SELLER, "--invoice", __file__, *PERIOD), "rf_sandbox", "choose --invoice FILE or --from-seller"),
    ],
)
def test_missing_list_is_explained(folder: Path, arguments: tuple[str, ...], key: str, text: str) -> None:
    result = reconcile(folder, *arguments, key=key)
    assert (result.exit_code != 0, text in result.output) == (True, True), result.output
