"""Metrics of where the time of a job went, measured on running gateways."""

import pytest

from tests.flow.flow_config import RUNAPI, RUNFLOW_RUNS, SLOW_MODEL
from tests.flow.order_flow import JobJson, OrderFlow

EACH_CALLING_SELLER = pytest.mark.parametrize("seller", [RUNFLOW_RUNS, RUNAPI])
TIMING_METRICS = {
    "queued": ("igw_job_state_duration_seconds_sum", {"state": "queued", "outcome": "completed"}),
    "in progress": ("igw_job_state_duration_seconds_sum", {"state": "in_progress", "outcome": "completed"}),
    "job": ("igw_job_duration_seconds_sum", {}),
    "attempt": ("igw_attempt_duration_seconds_sum", {}),
    "acceptance": ("igw_order_acceptance_duration_seconds_sum", {}),
    "acceptances": ("igw_order_acceptance_duration_seconds_count", {}),
    "download": ("igw_image_download_duration_seconds_sum", {}),
    "downloads": ("igw_image_download_duration_seconds_count", {}),
    "store": ("igw_image_store_duration_seconds_sum", {}),
    "stored images": ("igw_image_store_duration_seconds_count", {}),
    "slots": ("igw_slot_wait_seconds_count", {}),
    "polls": ("igw_order_polls_sum", {}),
    "polled orders": ("igw_order_polls_count", {}),
    "lag": ("igw_detection_lag_seconds_sum", {}),
    "saved": ("igw_callback_saved_seconds_total", {}),
}


class MetricChanges:
    """The growth of each metric of time since this was made."""

    def __init__(self, flow: OrderFlow) -> None:
        self._flow = flow
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        return {key: self._flow.gateway.read_metric(name, **labels) for key, (name, labels) in TIMING_METRICS.items()}

    def read(self) -> dict[str, float]:
        return {key: value - self._before[key] for key, value in self._read().items()}


def get_job_seconds(job: JobJson) -> float:
    return float(job["finished_at"] - job["created_at"])


@EACH_CALLING_SELLER
def test_polled_job_has_the_time_of_each_step(flow: OrderFlow, seller: str) -> None:
    flow.sandbox.set_latency(0.3)
    metrics = MetricChanges(flow)
    job = flow.order_images(seller, n=2)
    polls = len(flow.sandbox.list_requests("runflow" if seller == RUNFLOW_RUNS else "runapi", "poll"))
    grown = metrics.read()
    orders = len(job["attempts"])
    assert grown["job"] == pytest.approx(grown["queued"] + grown["in progress"], abs=0.01)
    assert grown["job"] == pytest.approx(get_job_seconds(job), abs=1.1)
    assert grown["in progress"] >= 0.3
    assert grown["attempt"] >= 0.3 * orders
    assert grown["slots"] == grown["polled orders"] == grown["acceptances"] == orders
    assert grown["downloads"] == grown["stored images"] == 2
    assert grown["polls"] == polls
    assert 0 < grown["acceptance"] < grown["attempt"]
    assert min(grown["download"], grown["store"], grown["lag"]) > 0
    assert grown["download"] + grown["store"] + grown["lag"] < 2 * grown["attempt"]
    assert grown["saved"] < grown["attempt"]


@EACH_CALLING_SELLER
def test_callback_saves_the_time_until_the_next_poll(flow: OrderFlow, seller: str) -> None:
    if seller == RUNFLOW_RUNS:
        flow.enable_callback_signatures()
    flow.sandbox.set_latency(0.3)
    metrics = MetricChanges(flow)
    job = flow.order_images(seller, model=SLOW_MODEL)
    grown = metrics.read()
    assert grown["saved"] > 5, "the first poll of the slow model is due later than the test waits"
    assert grown["polls"] == 1
    assert grown["lag"] < get_job_seconds(job) + 1
