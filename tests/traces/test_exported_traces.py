"""A gateway exports the spans of requests, jobs, attempts and calls to sellers to a collector."""

import base64
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.trace_context import derive_job_span_id
from tests.chaos.job_batches import INPUT_DATA_URI
from tests.harness.batch_client import make_line, make_sdk_client, run_batch
from tests.harness.gateway_process import API_KEY, SECRET_ENVIRON, GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.trace_collector import TraceCollector
from tests.traces.conftest import TRACED_CHILD
from tests.traces.traced_requests import (
    CLOCK_TOLERANCE,
    GENERATIONS,
    JOBS,
    TRACESTATE,
    load_stored_job,
    make_client_span,
    post,
    render_tree,
    wait_for_log_lines,
)

CELL = {"igw.operation": "generate", "igw.resolution": "1k", "igw.quality": "low"}
CANARY = "canary-4c1d9b2e"


def test_request_with_traceparent_makes_one_trace(gateway: GatewayProcess, collector: TraceCollector) -> None:
    client_span, sent_at = make_client_span(), time.time()
    answer = post(gateway, GENERATIONS, client_span)
    spans = collector.wait_for_trace(client_span.trace_id)
    assert render_tree(spans) == [
        "POST /v1/images/generations",
        "  job",
        "    attempt runflow-runs",
        "      submit runflow-runs",
        "      poll runflow-runs",
        "      download runflow-runs",
    ]
    request, job, attempt, submit, *_ = sorted(spans, key=lambda span: span.started_at)
    assert request.parent_id == client_span.span_id
    assert sent_at - CLOCK_TOLERANCE <= request.started_at <= request.ended_at <= time.time() + CLOCK_TOLERANCE
    for parent, child in ((request, job), (job, attempt), (attempt, submit)):
        assert parent.started_at - CLOCK_TOLERANCE <= child.started_at <= child.ended_at
        assert child.ended_at <= parent.ended_at + CLOCK_TOLERANCE
    job_id = answer.headers["x-igw-job-id"]
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/images/generations",
        "http.response.status_code": 200,
        "igw.request.id": answer.headers["x-request-id"],
        "igw.team": "chaos",
        "igw.job.id": job_id,
    }
    assert 0 <= job.attributes.pop("igw.queued_seconds") < job.ended_at - job.started_at
    order = {"igw.job.id": job_id, "igw.team": "chaos", "igw.model": "gpt-image-2", **CELL}
    counts = {"igw.images": 1, "igw.delivered": 1}
    result = {"igw.job.state": "completed", "igw.sellers": ["runflow-runs"], "igw.cost_usd": 0.009}
    assert job.attributes == order | counts | result
    assert attempt.attributes == order | counts | {"igw.attempt": 1, "igw.seller": "runflow-runs"}
    call = {"igw.job.id": job_id, "igw.attempt": 1, "igw.seller": "runflow-runs"}
    assert submit.attributes == {**call, "http.response.status_code": 201}
    assert not any(span.is_error for span in spans)
    assert {span.resource["service.name"] for span in spans} == {"image-gateway"}


def test_failover_has_two_attempts(gateway: GatewayProcess, collector: TraceCollector, sandbox: RunningSandbox) -> None:
    sandbox.inject_fault("status", vendor="runflow", route="submit", status=402)
    client_span = make_client_span()
    post(gateway, GENERATIONS, client_span)
    spans = collector.wait_for_trace(client_span.trace_id)
    tree = render_tree(spans)
    assert tree[:5] == [
        "POST /v1/images/generations",
        "  job",
        "    attempt runflow-runs no_credit",
        "      submit runflow-runs 402",
        "    attempt runapi",
    ]
    assert [span.name for span in spans if span.is_error] == ["submit", "attempt"]


@pytest.mark.parametrize(("policy", "step"), [("runflow-runs", "search"), ("runapi", "resend")])
def test_lost_response_shows_how_the_order_was_found(
    gateway: GatewayProcess, collector: TraceCollector, sandbox: RunningSandbox, policy: str, step: str
) -> None:
    sandbox.inject_fault("reset_after", vendor=policy.partition("-")[0], route="submit", times=1)
    client_span = make_client_span()
    post(gateway, JOBS, client_span, policy=policy)
    tree = render_tree(collector.wait_for_trace(client_span.trace_id))
    assert tree[:5] == [
        "POST /v1/jobs",
        "  job",
        f"    attempt {policy}",
        f"      submit {policy} response_lost",
        f"      {step} {policy}",
    ]


def test_uploads_of_input_images_are_below_the_job(gateway: GatewayProcess, collector: TraceCollector) -> None:
    client_span = make_client_span()
    post(gateway, JOBS, client_span, policy="runapi", operation="edit", image=INPUT_DATA_URI)
    tree = render_tree(collector.wait_for_trace(client_span.trace_id))
    assert tree[:4] == ["POST /v1/jobs", "  job", "    upload runapi", "    upload runapi"]
    assert "    attempt runapi" in tree


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", {}),
        ("/v1/images/edits", {"image": INPUT_DATA_URI}),
        ("/v1/responses", {"input": "a lighthouse", "tools": [{"type": "image_generation", "quality": "low"}]}),
    ],
)
def test_each_route_that_creates_a_job_continues_the_trace(
    gateway: GatewayProcess, collector: TraceCollector, path: str, body: dict[str, Any]
) -> None:
    client_span = make_client_span()
    post(gateway, path, client_span, **body)
    assert render_tree(collector.wait_for_trace(client_span.trace_id))[:2] == [f"POST {path}", "  job"]


def test_killed_process_leaves_its_trace_to_the_next_one(
    config: Path, tmp_path: Path, collector: TraceCollector, sandbox: RunningSandbox
) -> None:
    """The new process ends the attempt and the job, with the parents that the killed one named."""
    client_span = make_client_span()
    sandbox.hold_orders()
    with run_replica(tmp_path, config, collector.environ, TRACED_CHILD) as gateway:
        with gateway.make_client() as client:
            job_id = client.post(JOBS, json={"prompt": "a kill"}, headers=client_span.headers).json()["id"]
        collector.wait_for_spans(client_span.trace_id, "POST /v1/jobs", "submit")
        gateway.kill()
        sandbox.release_orders()
        gateway.start()
        spans = collector.wait_for_trace(client_span.trace_id)
    tree = render_tree(spans)
    assert tree[:4] == ["POST /v1/jobs", "  job", "    attempt runflow-runs", "      submit runflow-runs"]
    assert "      download runflow-runs" in tree
    replicas = {span.name: span.resource["service.instance.id"] for span in spans}
    assert replicas["POST /v1/jobs"] == replicas["submit"]
    assert replicas["job"] == replicas["attempt"] != replicas["submit"]
    assert derive_job_span_id(job_id) in {span.span_id for span in spans}


def test_request_without_header_starts_a_trace(gateway: GatewayProcess, collector: TraceCollector) -> None:
    request_id = post(gateway, GENERATIONS).headers["x-request-id"]
    [line] = wait_for_log_lines(gateway, "request completed", id=request_id)
    trace_id, span_id = line["traceparent"].split("-")[1:3]
    spans = collector.wait_for_trace(trace_id)
    assert render_tree(spans)[:2] == ["POST /v1/images/generations", "  job"]
    assert [span.span_id for span in spans if not span.parent_id] == [span_id]
    assert "client_span" not in line


def test_trace_that_the_client_does_not_sample_is_not_exported(
    gateway: GatewayProcess, collector: TraceCollector
) -> None:
    client_span, later = make_client_span(flags="00"), make_client_span()
    answer = post(gateway, GENERATIONS, client_span)
    post(gateway, GENERATIONS, later)
    collector.wait_for_trace(later.trace_id)
    assert client_span.trace_id not in {span.trace_id for span in collector.spans}
    [line] = wait_for_log_lines(gateway, "job ended", job=answer.headers["x-igw-job-id"])
    assert line["traceparent"].startswith(f"00-{client_span.trace_id}-")
    assert line["traceparent"].endswith("-00")


def test_monitoring_and_failed_requests(gateway: GatewayProcess, collector: TraceCollector) -> None:
    """Requests of monitoring have no spans. Those that are refused have one, with the team if it is known."""
    client_span = make_client_span()
    with gateway.make_client() as client:
        for path in ("/livez", "/readyz", "/metrics"):
            client.get(path, headers=client_span.headers)
        client.post(GENERATIONS, json={}, headers=client_span.headers)
        client.get("/no/such/path", headers=client_span.headers)
        client.request("PROPFIND", JOBS, headers=client_span.headers)
    spans = collector.wait_for_spans(client_span.trace_id, "HTTP")
    assert [(span.name, span.attributes["http.response.status_code"]) for span in spans] == [
        ("POST /v1/images/generations", 400),
        ("GET", 404),
        ("HTTP", 405),
    ]
    assert [span.attributes.get("igw.team") for span in spans] == ["chaos", None, None]
    assert not any(span.is_error for span in spans), "mistakes of clients are not errors of the server"


def test_log_lines_have_the_trace(gateway: GatewayProcess, collector: TraceCollector) -> None:
    client_span = make_client_span()
    job_id = post(gateway, GENERATIONS, client_span).headers["x-igw-job-id"]
    [job_line] = wait_for_log_lines(gateway, "job ended", job=job_id)
    [request_line] = wait_for_log_lines(gateway, "request completed", job=job_id)
    spans = collector.wait_for_trace(client_span.trace_id)
    [request] = [span for span in spans if span.parent_id == client_span.span_id]
    assert request_line["traceparent"] == f"00-{client_span.trace_id}-{request.span_id}-01"
    assert request_line["client_span"] == client_span.span_id
    assert job_line["traceparent"] == request_line["traceparent"]
    job = load_stored_job(gateway, job_id)
    assert (job.traceparent, job.tracestate) == (job_line["traceparent"], TRACESTATE)


def test_lines_of_batches_have_no_trace(gateway: GatewayProcess, collector: TraceCollector) -> None:
    with make_sdk_client(gateway.url, API_KEY) as client:
        batch = run_batch(client, [make_line(1)])
    assert batch.status == "completed"
    wait_for_log_lines(gateway, "batch ended", batch=batch.id)
    [job_line] = [line for line in wait_for_log_lines(gateway, "job ended") if "traceparent" not in line]
    assert job_line["job"] not in {span.attributes.get("igw.job.id") for span in collector.spans}


def test_spans_contain_no_prompt_key_url_or_metadata(
    gateway: GatewayProcess, collector: TraceCollector, sandbox: RunningSandbox
) -> None:
    image = INPUT_DATA_URI.partition(",")[2]
    sandbox.inject_fault("status", vendor="runflow", route="submit", status=422, body=CANARY, times=1)
    client_span = make_client_span()
    fields = {"prompt": CANARY, "metadata": {CANARY: CANARY}, "user": CANARY, "labels": [CANARY]}
    job = post(gateway, JOBS, client_span, operation="edit", image=INPUT_DATA_URI, **fields).json()
    with gateway.make_client() as client:
        client.get(job["images"][0]["url"], headers=client_span.headers)
        client.get(f"/{CANARY}?token={CANARY}", headers={"traceparent": CANARY, "tracestate": CANARY})
        client.get(f"/v1/jobs/{CANARY}", headers=client_span.headers)
    collector.wait_for_spans(client_span.trace_id, "job", "GET /v1/jobs/{job_id}")
    exported = b"".join(collector.bodies)
    forbidden = [CANARY, image[:60], "http://", "https://", "127.0.0.1", "sig=", *SECRET_ENVIRON.values()]
    assert [text for text in forbidden if text.encode() in exported] == []
    assert base64.b64decode(image)[:40] not in exported
