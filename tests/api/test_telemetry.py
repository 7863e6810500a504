"""Logs and metrics identify every request, and contain no client data."""

import base64
import io
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metric_table import METRIC_TABLE
from tests.api.error_responses import IMAGES_PATH, JOBS_PATH
from tests.harness.gateway_runner import CONFIG, RunningGateway, run_sandboxed_gateway
from tests.harness.wait import wait_for_value

CANARY = "canary7f3a"
# By the faults "status 500" and "truncate": whether the seller accepted them is searched for minutes.
UNANSWERED_ORDERS = 2
COMMON_LOG_FIELDS = {"at", "level", "event"}


@pytest.fixture(scope="module")
def canary_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that received canaries in every field, in successful and failing requests."""
    folder: Path = tmp_path_factory.mktemp("told")
    shutil.copytree(CONFIG, folder / "config")
    offer = folder / "config" / "offers" / "runflow-runs.yaml"
    offer.write_text(offer.read_text().replace('price: "0.034"', 'price: "0.04"'))
    environ = {"IGW_LOG_LEVEL": "debug"}
    with run_sandboxed_gateway(folder, "--config", str(folder / "config"), environ=environ) as running:
        running.sandbox.set_latency(0.0)
        send_canaries(running)
        yield running


def send_canaries(gateway: RunningGateway) -> None:
    vendors = gateway.sandbox
    canary_image = make_canary_image()
    fields = {"prompt": f"{CANARY} prompt", "metadata": {f"{CANARY}-name": CANARY}, "user": f"{CANARY}-user"}
    headers = {
        "prefer": "wait=20",
        "idempotency-key": f"{CANARY}-key",
        "user-agent": f"{CANARY}-agent",
        "x-note": CANARY,
        "cookie": f"session={CANARY}",
        "traceparent": CANARY,
    }
    finished_job = gateway.http.post(JOBS_PATH, json=fields, headers=headers).json()
    assert finished_job["status"] == "completed", finished_job
    edit = {
        **fields,
        "operation": "edit",
        "image": f"data:image/png;base64,{canary_image}",
        "provider": {"only": ["runapi"]},
    }
    assert gateway.http.post(JOBS_PATH, json=edit, headers={"prefer": "wait=20"}).status_code == 200
    mispriced = {**fields, "quality": "medium", "provider": {"only": ["runflow-runs"]}}
    assert gateway.http.post(JOBS_PATH, json=mispriced, headers={"prefer": "wait=20"}).status_code == 200
    url = finished_job["images"][0]["url"]
    for address in (url, url + "x", f"{gateway.url}/{CANARY}?token={CANARY}", f"{gateway.url}/v1/jobs/{CANARY}"):
        httpx.get(address, trust_env=False)
    httpx.post(gateway.url + JOBS_PATH, json=fields, headers={"authorization": f"Bearer {CANARY}-key"}, trust_env=False)
    for invalid_fields in ({"model": CANARY}, {"policy": CANARY}, {CANARY: 1}, {"size": CANARY}, {"max_price": CANARY}):
        gateway.http.post(IMAGES_PATH, json=fields | invalid_fields)
    gateway.http.post(
        JOBS_PATH, content=f'{{"prompt": "{CANARY}'.encode(), headers={"content-type": "application/json"}
    )
    gateway.http.post(
        JOBS_PATH, json={**fields, "operation": "edit", "image": f"https://{CANARY}.invalid/{CANARY}.png"}
    )
    error = json.dumps({"error": f"account {CANARY} has no money", "message": CANARY})
    for fault in (
        {"kind": "status", "status": 500, "body": error},
        {"kind": "status", "status": 401, "body": error},
        {"kind": "status", "status": 422, "body": error},
        {"kind": "html", "status": 502, "body": CANARY},
        {"kind": "fail", "message": CANARY, "code": CANARY},
        {"kind": "truncate"},
        {"kind": "reset_before"},
        {"kind": "status", "route": "poll", "status": 500, "body": error},
        {"kind": "status", "route": "download", "status": 404, "body": error},
    ):
        vendors.inject_fault(times=1, **fault)  # type: ignore[arg-type]
        gateway.http.post(JOBS_PATH, json=fields, headers={"prefer": "wait=4"})
        vendors.call_control_route("DELETE", "/faults")
    wait_for_value(
        lambda: gateway.http.get("/readyz").json()["jobs"],
        lambda jobs: jobs <= UNANSWERED_ORDERS,
        "only jobs with unanswered orders are in flight",
    )


def make_canary_image() -> str:
    out, info = io.BytesIO(), PngInfo()
    info.add_text("Comment", CANARY)
    Image.new("RGB", (1024, 1024), "navy").save(out, "PNG", pnginfo=info)
    return base64.b64encode(out.getvalue()).decode()


def read_metric_samples(gateway: RunningGateway) -> list[Any]:
    text = gateway.http.get("/metrics").text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


@pytest.mark.thorough
def test_logs_and_metrics_contain_no_request_data(canary_gateway: RunningGateway) -> None:
    metrics = canary_gateway.http.get("/metrics").text
    link = re.compile(r"sig=[\w-]{10}|/callbacks/\w+/job_|/files/\d\d/|Bearer |iVBORw0|data:image")
    for name, text in (("stdout", canary_gateway.stdout), ("stderr", canary_gateway.stderr), ("metrics", metrics)):
        assert CANARY not in text, f"{name}: {text[max(0, text.find(CANARY) - 300) : text.find(CANARY) + 100]}"
        assert not link.search(text) or name == "stdout"
    for key in ("igw_sandbox", "sk-sandbox", "rf_sandbox"):
        assert key not in canary_gateway.stderr + metrics
    logs = [path for path in (canary_gateway.folder / "data").rglob("*.log*")]
    assert [path for path in logs if CANARY.encode() in path.read_bytes()] == []


@pytest.mark.thorough
def test_decision_records_contain_no_request_data(canary_gateway: RunningGateway) -> None:
    with closing(sqlite3.connect(canary_gateway.folder / "data" / "gateway.db")) as database:
        rows = database.execute("SELECT record, outcome FROM decision_records").fetchall()
    assert len(rows) == 12
    assert [row for row in rows if CANARY.encode() in row[0] + (row[1] or b"")] == []
    assert any(b'"input_count":1' in record and b'"largest_input_edge":1024' in record for record, _ in rows)
    assert all(f'"prompt_bytes":{len(f"{CANARY} prompt")}'.encode() in record for record, _ in rows)
    assert sum(outcome is not None for _, outcome in rows) >= len(rows) - UNANSWERED_ORDERS


def links_each_job(lines: list[dict[str, Any]]) -> bool:
    jobs = {line["job"] for line in lines if line["event"] == "job accepted"}
    return jobs <= {line.get("job") for line in lines if line["event"] == "request completed"}


def test_log_lines_link_request_job_and_attempt(canary_gateway: RunningGateway) -> None:
    # The last request of another test is logged a moment after its response.
    lines = wait_for_value(canary_gateway.read_log_lines, links_each_job, "each job is linked to its request")
    assert all(line.keys() >= COMMON_LOG_FIELDS for line in lines)
    by_event: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_event.setdefault(line["event"], []).append(line)
    assert all(line["id"].startswith("req_") and line["route"] for line in by_event["request completed"])
    attempt_events = ("attempt recorded", "attempt ended", "failover started", "ledger entry posted", "price mismatch")
    for event in ("job accepted", "job ended", *attempt_events):
        assert all(len(line["config"]) == 12 and line["job"].startswith("job_") for line in by_event[event]), event
    assert all(line["attempt"] >= 1 for event in attempt_events for line in by_event[event])
    assert all(line["expected_seconds"] > 0 for line in by_event["attempt ended"])
    assert {(line["job"], line["attempt"]) for line in by_event["failover started"]} <= {
        (line["job"], line["attempt"]) for line in by_event["attempt recorded"]
    }
    jobs = {line["job"] for line in by_event["job accepted"]}
    assert jobs == {line["job"] for line in by_event["job ended"]} | {
        line["job"] for line in by_event["attempt recorded"]
    }


def test_metrics_cover_requests_jobs_orders_and_spending(canary_gateway: RunningGateway) -> None:
    def read_captured_usd() -> float:
        samples = read_metric_samples(canary_gateway)
        spent = [sample for sample in samples if sample.name == "igw_spend_usd_total"]
        return sum(sample.value for sample in spent if sample.labels["line"] == "capture")

    wait_for_value(read_captured_usd, lambda captured: captured >= 0.06, "the money is read from the store")
    text = canary_gateway.http.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    sellers = {sample.labels["seller"] for sample in families["igw_cell_circuit_breaker_state"].samples}
    assert sellers >= {"runapi", "runflow-runs"}
    outcomes = {sample.labels["outcome"] for sample in families["igw_attempts_ended"].samples}
    assert outcomes >= {"delivered", "order_failed"}


def test_metrics_are_those_of_the_table(canary_gateway: RunningGateway) -> None:
    families = list(text_string_to_metric_families(canary_gateway.http.get("/metrics").text))
    assert [family.name for family in families] == [row.name.removesuffix("_total") for row in METRIC_TABLE]
    for family, row in zip(families, METRIC_TABLE, strict=True):
        assert (family.type, family.documentation) == (row.kind, row.help)
        assert all(set(sample.labels) - {"le"} == set(row.labels) for sample in family.samples), row.name


@pytest.mark.thorough
def test_metric_labels_stay_bounded_for_any_request(canary_gateway: RunningGateway) -> None:
    def get_label_sets() -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {(sample.name, tuple(sorted(sample.labels.items()))) for sample in read_metric_samples(canary_gateway)}

    methods, before = ("GET", "POST", "PUT", "DELETE", "PATCH", "PROPFIND"), len(get_label_sets())
    for number in range(2_000):
        path = (
            f"/{number}/x",
            f"/v1/jobs/{number}",
            IMAGES_PATH,
            f"/files/{number}",
            f"/callbacks/a/{number}/1/{number}",
        )
        fields = {"prompt": "a", "model": f"model-{number}", "policy": f"policy-{number}", "user": str(number)}
        canary_gateway.http.request(methods[number % 6], path[number % 5], json=fields)
    assert len(get_label_sets()) - before < 500, "too many series: routes, methods and statuses must be bounded"
    for number in range(30):
        canary_gateway.http.post(IMAGES_PATH, json={"prompt": "a", "model": f"other-{number}"})
        canary_gateway.http.get(f"/other/{number}")
    label_set_count = len(get_label_sets())
    for number in range(100):
        canary_gateway.http.post(IMAGES_PATH, json={"prompt": "a", "model": f"another-{number}"})
        canary_gateway.http.get(f"/another/{number}")
    assert len(get_label_sets()) == label_set_count


def test_metrics_name_their_format_and_charset_once(gateway: RunningGateway) -> None:
    answer = gateway.http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
