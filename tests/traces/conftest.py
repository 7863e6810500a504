"""A gateway that exports its traces to a collector, one of each per module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.chaos_config import write_config
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.trace_collector import TraceCollector, run_trace_collector

FLUSH_TIMEOUT_SECONDS = 1.0
TRACED_TIMINGS = change_timing(
    FAST_TIMINGS,
    maintenance={"trace_flush_timeout_seconds": FLUSH_TIMEOUT_SECONDS},
    polls={"max_interval_seconds": 0.2},
)
TRACED_CHILD = ChildSpec(TRACED_TIMINGS)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, sandbox_process: RunningSandbox) -> Path:
    folder = tmp_path_factory.mktemp("traced") / "config"
    return write_config(folder, sandbox_process.url, lease_seconds=2.0, expected_seconds=0.05)


@pytest.fixture(scope="module")
def module_collector() -> Iterator[TraceCollector]:
    with run_trace_collector() as running:
        yield running


@pytest.fixture(scope="module")
def module_gateway(config: Path, module_collector: TraceCollector) -> Iterator[GatewayProcess]:
    folder = config.parent / "gateway"
    with run_replica(folder, config, module_collector.environ, TRACED_CHILD) as running:
        yield running


@pytest.fixture
def collector(module_collector: TraceCollector) -> TraceCollector:
    module_collector.status = 200
    return module_collector


@pytest.fixture
def gateway(module_gateway: GatewayProcess, sandbox: RunningSandbox) -> GatewayProcess:
    module_gateway.forget_earlier_problems()
    return module_gateway
