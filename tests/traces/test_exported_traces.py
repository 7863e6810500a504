"""A gateway exports the spans of requests, jobs, attempts and calls to sellers to a collector."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chaos.chaos_config import write_config
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.trace_collector import ReceivedSpan, TraceCollector, run_trace_collector

TRACE_ID, CLIENT_SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{CLIENT_SPAN_ID}-01"
# The clock of jobs follows corrections of the system clock slowly.
CLOCK_TOLERANCE = 0.05
BODY: dict[str, object] = {"prompt": "a traced picture", "quality": "low"}


@pytest.fixture
def collector() -> Iterator[TraceCollector]:
    with run_trace_collector() as running:
        yield running


@pytest.fixture
def gateway(tmp_path: Path, sandbox: RunningSandbox, collector: TraceCollector) -> Iterator[GatewayProcess]:
    config = write_config(tmp_path / "config", sandbox.url, lease_seconds=2.0)
    with run_replica(tmp_path / "gateway", config, collector.environ) as running:
        yield running


def render_tree(spans: list[ReceivedSpan]) -> list[str]:
    """Renders each span below its parent, by start time, with its seller."""
    known_ids = {span.span_id for span in spans}
    roots = [span for span in spans if span.parent_id not in known_ids]

    def render(span: ReceivedSpan, depth: int) -> Iterator[str]:
        seller = span.attributes.get("igw.seller")
        yield "  " * depth + span.name + (f" {seller}" if seller else "")
        for child in sorted(spans, key=lambda child: child.started_at):
            if child.parent_id == span.span_id:
                yield from render(child, depth + 1)

    return [line for root in roots for line in render(root, 0)]


def send_request(gateway: GatewayProcess, traceparent: str | None = TRACEPARENT, **fields: object) -> httpx.Response:
    headers = {"traceparent": traceparent} if traceparent else {}
    with gateway.make_client() as client:
        return client.post("/v1/images/generations", json=BODY | fields, headers=headers)


def test_request_with_traceparent_makes_one_trace(gateway: GatewayProcess, collector: TraceCollector) -> None:
    sent_at = time.time()
    answer = send_request(gateway)
    assert answer.status_code == 200, answer.text
    spans = collector.wait_for_trace(TRACE_ID)
    assert render_tree(spans) == [
        "POST /v1/images/generations",
        "  job",
        "    attempt runflow-runs",
        "      submit runflow-runs",
        "      poll runflow-runs",
        "      download runflow-runs",
    ]
    request, job, attempt, submit, *_ = sorted(spans, key=lambda span: span.started_at)
    assert request.parent_id == CLIENT_SPAN_ID
    assert sent_at - CLOCK_TOLERANCE <= request.started_at <= request.ended_at <= time.time() + CLOCK_TOLERANCE
    for parent, child in ((request, job), (job, attempt), (attempt, submit)):
        assert parent.started_at - CLOCK_TOLERANCE <= child.started_at
        assert child.started_at <= child.ended_at <= parent.ended_at + CLOCK_TOLERANCE
    job_id = answer.headers["x-igw-job-id"]
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/images/generations",
        "http.response.status_code": 200,
        "igw.request.id": answer.headers["x-request-id"],
        "igw.team": "chaos",
        "igw.job.id": job_id,
    }
    cell = {"igw.operation": "generate", "igw.resolution": "1k", "igw.quality": "low"}
    queued_seconds = job.attributes.pop("igw.queued_seconds")
    assert 0 <= queued_seconds < job.ended_at - job.started_at
    assert job.attributes == {
        "igw.job.id": job_id,
        "igw.job.state": "completed",
        "igw.team": "chaos",
        "igw.model": "gpt-image-2",
        **cell,
        "igw.images": 1,
        "igw.delivered": 1,
        "igw.sellers": ["runflow-runs"],
        "igw.cost_usd": 0.009,
    }
    assert attempt.attributes == {
        "igw.job.id": job_id,
        "igw.attempt": 1,
        "igw.seller": "runflow-runs",
        "igw.team": "chaos",
        "igw.model": "gpt-image-2",
        **cell,
        "igw.images": 1,
        "igw.delivered": 1,
    }
    call = {"igw.job.id": job_id, "igw.attempt": 1, "igw.seller": "runflow-runs"}
    assert submit.attributes == {**call, "http.response.status_code": 201}
    assert not any(span.is_error for span in spans)
    assert {span.resource["service.name"] for span in spans} == {"image-gateway"}
