"""Sellers that take their time: every caller gets his picture, and what waits for it takes little room."""

from pathlib import Path

from bench.held import hold
from tests.chaos import configs
from tests.chaos.gateways import gateway
from tests.vendors import Vendors

JOBS, SECONDS = 200, 3.0
# Measured: 80 MB before any job, 160 MB at most with a thousand. Pictures on their way out weigh more than jobs.
MOST_MB = 240.0


def test_hundreds_of_jobs_are_held_in_little_memory(tmp_path: Path, sandbox: Vendors) -> None:
    sandbox.latency(SECONDS)
    config = configs.write(tmp_path / "config", sandbox.url, expected=SECONDS)
    with gateway(tmp_path / "gateway", config) as one:
        held = hold(one, JOBS, SECONDS)
        print(held.shown())
        assert held.answers == {200: JOBS}
        assert held.pictures == JOBS
        assert held.at_once > JOBS / 2
        assert held.peak < MOST_MB
        one.stop()
    assert len(sandbox.charges()) == JOBS
