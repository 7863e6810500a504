"""Traces cost no request and no job: not without a collector, and not with one that hangs, refuses or is gone."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.harness.child_spec import Hook
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.ports import reserve_port
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.trace_collector import TraceCollector
from tests.traces.conftest import FLUSH_TIMEOUT_SECONDS, TRACED_CHILD
from tests.traces.traced_requests import (
    GENERATIONS,
    TRACESTATE,
    load_stored_job,
    make_client_span,
    post,
    wait_for_log_lines,
)

# What stopping takes on a busy machine, besides the spans. An export takes longer, and OpenTelemetry's shutdown 30 s.
STOP_SECONDS, EXPORT_SECONDS = 20.0, 60
REQUESTS = 5
HANGS, REFUSES_KEY, OVERLOADED = 0, 401, 503


def run_requests_and_stop(folder: Path, config: Path, environ: dict[str, str]) -> list[dict[str, object]]:
    """Sends requests to a gateway and stops it. Returns its log lines; reading them fails if one is not JSON."""
    environ = environ | {"OTEL_EXPORTER_OTLP_TIMEOUT": str(EXPORT_SECONDS)}
    with run_replica(folder, config, environ, TRACED_CHILD) as gateway:
        for _ in range(REQUESTS):
            post(gateway, GENERATIONS, make_client_span())
        stopped_at = time.monotonic()
        gateway.stop()
        assert time.monotonic() - stopped_at < FLUSH_TIMEOUT_SECONDS + STOP_SECONDS
        lines = gateway.read_log_lines()
    assert sum(line["event"] == "request completed" for line in lines) >= REQUESTS
    return lines


@pytest.mark.parametrize("status", [HANGS, REFUSES_KEY, OVERLOADED])
def test_collector_that_hangs_or_refuses_costs_nothing(
    config: Path, tmp_path: Path, sandbox: RunningSandbox, collector: TraceCollector, status: int
) -> None:
    collector.status = status
    lines = run_requests_and_stop(tmp_path, config, collector.environ)
    check_library_lines(lines)
    assert collector.spans == []


def test_collector_that_is_gone_costs_nothing(config: Path, tmp_path: Path, sandbox: RunningSandbox) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{reserve_port()}", "OTEL_BSP_SCHEDULE_DELAY": "20"}
    lines = run_requests_and_stop(tmp_path, config, environ)
    assert check_library_lines(lines)


def check_library_lines(lines: list[dict[str, object]]) -> list[dict[str, object]]:
    """Returns the lines of OpenTelemetry's packages. There are few, and none has a host or a URL."""
    library_lines = [line for line in lines if line["event"] == "library"]
    assert len(library_lines) <= 4, library_lines
    assert all(str(line["library"]).startswith("opentelemetry.") for line in library_lines)
    assert "127.0.0.1" not in str(library_lines)
    return library_lines


@pytest.fixture
def untraced_gateway(config: Path, tmp_path: Path, sandbox: RunningSandbox) -> Iterator[GatewayProcess]:
    with run_replica(tmp_path, config, child=TRACED_CHILD) as running:
        yield running


def test_without_traces_the_job_continues_the_client_trace(untraced_gateway: GatewayProcess) -> None:
    gateway, client_span = untraced_gateway, make_client_span()
    job_id = post(gateway, GENERATIONS, client_span).headers["x-igw-job-id"]
    [job_line] = wait_for_log_lines(gateway, "job ended", job=job_id)
    [request_line] = wait_for_log_lines(gateway, "request completed", job=job_id)
    assert job_line["traceparent"] == request_line["traceparent"] == client_span.headers["traceparent"]
    assert load_stored_job(gateway, job_id).tracestate == TRACESTATE
    untraced_job_id = post(gateway, GENERATIONS, prompt="another").headers["x-igw-job-id"]
    [job_line] = wait_for_log_lines(gateway, "job ended", job=untraced_job_id)
    assert not {"traceparent", "client_span"} & job_line.keys()
    assert load_stored_job(gateway, untraced_job_id).tracestate is None, "it means nothing without a trace"


def test_gateway_without_the_packages_starts_with_a_warning(
    config: Path, tmp_path: Path, sandbox: RunningSandbox, collector: TraceCollector
) -> None:
    child = replace(TRACED_CHILD, hooks=(Hook("tests.traces.missing_packages:hide_opentelemetry"),))
    with run_replica(tmp_path, config, collector.environ, child) as gateway:
        post(gateway, GENERATIONS, make_client_span())
        [line] = wait_for_log_lines(gateway, "trace warning")
    assert line["warning"] == (
        "no traces are exported: the module opentelemetry.context is missing. See docs/traces.md"
    )
