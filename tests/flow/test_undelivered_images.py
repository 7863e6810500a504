"""Images that exist but cannot be stored or downloaded: they were charged, so delivery is retried."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.flow.flow_config import BACKUP_BY_SELLER, PRICE_MICROS, RUNFLOW_RUN, SELLERS, VENDOR_BY_SELLER, GatewaySetup
from tests.flow.gateway_on_store import GatewayAndStore, run_gateway_on_store
from tests.flow.order_flow import PROMPT, OrderFlow
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing

DEADLINE_SECONDS = 4.0
SETUP = GatewaySetup(
    job_settings={"deadline_seconds": DEADLINE_SECONDS},
    # One failed download is final, so that one of several images can be lost.
    timing=change_timing(FAST_TIMINGS, fetches={"max_tries": 1}),
)


@pytest.fixture(scope="module")
def gateway_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("in-hand")


@pytest.fixture(scope="module")
def gateway_and_store(gateway_folder: Path, sandbox_process: RunningSandbox) -> Iterator[GatewayAndStore]:
    with run_gateway_on_store("sqlite", gateway_folder, sandbox_process, SETUP) as running:
        yield running


@contextmanager
def move_storage_away(gateway_folder: Path) -> Iterator[None]:
    storage, away = gateway_folder / "data" / "images", gateway_folder / "data" / "away"
    storage.rename(away)
    try:
        yield
    finally:
        away.rename(storage)


def test_images_are_delivered_when_storage_returns_after_the_deadline(flow: OrderFlow, gateway_folder: Path) -> None:
    """Even images that came in the response are delivered: only the task that waits for the storage has them."""
    params = {"prompt": PROMPT, "quality": "low"}
    with move_storage_away(gateway_folder):
        accepted_jobs = [
            flow.gateway.post_job({**params, "provider": {"only": [seller]}}, prefer="wait=0").json()
            for seller in SELLERS
        ]
        # All deadlines are over, and delivery is still retried.
        time.sleep(DEADLINE_SECONDS + 1.0)
    jobs = [flow.gateway.get_job(job["id"]) for job in accepted_jobs]
    assert [job["status"] for job in jobs] == ["completed"] * len(SELLERS)
    assert [image.size for job in jobs for image in flow.fetch_images(job)] == [(1024, 1024)] * len(SELLERS)
    assert flow.sum_ledger_by_line() == {(seller, "capture"): PRICE_MICROS[seller] for seller in SELLERS}


def test_images_lost_from_an_order_are_booked_as_orphans(flow: OrderFlow) -> None:
    """The other images are delivered."""
    flow.sandbox.inject_fault("status", vendor=VENDOR_BY_SELLER[RUNFLOW_RUN], route="download", status=404, times=1)
    job = flow.order_with_failover(RUNFLOW_RUN, n=3)
    assert job["status"] == "completed"
    assert len(job["images"]) == 2
    assert flow.sum_ledger_by_line() == {
        (RUNFLOW_RUN, "capture"): 2 * PRICE_MICROS[RUNFLOW_RUN],
        (RUNFLOW_RUN, "orphan"): PRICE_MICROS[RUNFLOW_RUN],
    }
    assert flow.count_orders(BACKUP_BY_SELLER[RUNFLOW_RUN]) == 0
