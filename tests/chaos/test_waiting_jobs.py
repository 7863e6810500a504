"""Slow sellers: hundreds of waiting clients get their images with little memory."""

from pathlib import Path

import pytest

from bench.waiting_jobs import measure_waiting_jobs
from tests.chaos import chaos_config
from tests.harness.gateway_process import run_replica
from tests.harness.sandbox_runner import RunningSandbox

JOB_COUNT, ORDER_SECONDS = 200, 3.0
# Measured: 80 MB before any job, at most 160 MB with a thousand. Images being sent need more memory than jobs.
MAX_MEMORY_MB = 240.0


@pytest.mark.thorough
def test_hundreds_of_waiting_jobs_need_little_memory(tmp_path: Path, sandbox: RunningSandbox) -> None:
    sandbox.set_latency(ORDER_SECONDS)
    config = chaos_config.write_config(tmp_path / "config", sandbox.url, expected_seconds=ORDER_SECONDS)
    with run_replica(tmp_path / "gateway", config) as gateway:
        measurement = measure_waiting_jobs(gateway, JOB_COUNT, ORDER_SECONDS)
        print(measurement.render())
        assert measurement.status_counts == {200: JOB_COUNT}
        assert measurement.images == JOB_COUNT
        assert measurement.concurrent_jobs > JOB_COUNT / 2
        assert measurement.peak_mb < MAX_MEMORY_MB
        gateway.stop()
    assert len(sandbox.list_charges()) == JOB_COUNT
