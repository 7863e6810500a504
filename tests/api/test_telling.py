"""What the gateway tells of itself: enough to find any request again, and nothing that was confided to it."""

import base64
import io
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from prometheus_client.parser import text_string_to_metric_families

from tests.api.answers import IMAGES, JOBS
from tests.serving import CONFIG, Serving, serving

CANARY = "canary7f3a"
RECORDED = {"at", "level", "event"}
METRICS = {
    *("igw_http_request_seconds", "igw_http_overhead_seconds", "igw_job_seconds", "igw_attempt_seconds"),
    *("igw_images", "igw_spend_usd", "igw_failovers", "igw_cell_healthy", "igw_jobs_in_flight", "igw_account_orders"),
    "igw_cell_conformance",
    *("igw_jobs_accepted", "igw_troubles", "igw_rescues", "igw_price_drifts", "igw_config_reloads"),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A gateway that has been confided canaries wherever there is room for one, in good times and in bad."""
    folder: Path = tmp_path_factory.mktemp("told")
    shutil.copytree(CONFIG, folder / "config")
    offer = folder / "config" / "offers" / "runflow-runs.yaml"
    offer.write_text(offer.read_text().replace('price: "0.034"', 'price: "0.04"'))
    with serving(folder, "--config", str(folder / "config")) as running:
        running.vendors.latency(0.0)
        confide(running)
        yield running


def confide(gateway: Serving) -> None:
    vendors = gateway.vendors
    picture = marked_picture()
    fields = {"prompt": f"{CANARY} prompt", "metadata": {f"{CANARY}-name": CANARY}, "user": f"{CANARY}-user"}
    headers = {
        "prefer": "wait=20",
        "idempotency-key": f"{CANARY}-key",
        "user-agent": f"{CANARY}-agent",
        "x-note": CANARY,
        "cookie": f"session={CANARY}",
        "traceparent": CANARY,
    }
    done = gateway.http.post(JOBS, json=fields, headers=headers).json()
    assert done["status"] == "completed", done
    edited = {
        **fields,
        "operation": "edit",
        "image": f"data:image/png;base64,{picture}",
        "provider": {"only": ["runapi"]},
    }
    assert gateway.http.post(JOBS, json=edited, headers={"prefer": "wait=20"}).status_code == 200
    drifting = {**fields, "quality": "medium", "provider": {"only": ["runflow-runs"]}}
    assert gateway.http.post(JOBS, json=drifting, headers={"prefer": "wait=20"}).status_code == 200
    url = done["images"][0]["url"]
    for address in (url, url + "x", f"{gateway.url}/{CANARY}?token={CANARY}", f"{gateway.url}/v1/jobs/{CANARY}"):
        httpx.get(address, trust_env=False)
    httpx.post(gateway.url + JOBS, json=fields, headers={"authorization": f"Bearer {CANARY}-key"}, trust_env=False)
    for wrong in ({"model": CANARY}, {"policy": CANARY}, {CANARY: 1}, {"size": CANARY}, {"max_price": CANARY}):
        gateway.http.post(IMAGES, json=fields | wrong)
    gateway.http.post(JOBS, content=f'{{"prompt": "{CANARY}'.encode(), headers={"content-type": "application/json"})
    gateway.http.post(JOBS, json={**fields, "operation": "edit", "image": f"https://{CANARY}.invalid/{CANARY}.png"})
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
        vendors.fault(times=1, **fault)  # type: ignore[arg-type]
        gateway.http.post(JOBS, json=fields, headers={"prefer": "wait=4"})
        vendors.control("DELETE", "/faults")
    gateway.come_to_rest(3)


def marked_picture() -> str:
    out, info = io.BytesIO(), PngInfo()
    info.add_text("Comment", CANARY)
    Image.new("RGB", (1024, 1024), "navy").save(out, "PNG", pnginfo=info)
    return base64.b64encode(out.getvalue()).decode()


def samples(gateway: Serving) -> list[Any]:
    text = gateway.http.get("/metrics").text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def test_nothing_that_was_confided_is_told(told: Serving) -> None:
    metrics = told.http.get("/metrics").text
    link = re.compile(r"sig=[\w-]{10}|/callbacks/\w+/job_|/files/\d\d/|Bearer |iVBORw0|data:image")
    for name, text in (("stdout", told.said), ("stderr", told.logged), ("metrics", metrics)):
        assert CANARY not in text, f"{name}: {text[max(0, text.find(CANARY) - 300) : text.find(CANARY) + 100]}"
        assert not link.search(text) or name == "stdout"
    for key in ("igw_sandbox", "sk-sandbox", "rf_sandbox"):
        assert key not in told.logged + metrics
    logs = [path for path in (told.folder / "data").rglob("*.log*")]
    assert [path for path in logs if CANARY.encode() in path.read_bytes()] == []


def test_every_line_is_json_and_leads_from_request_to_job_to_attempt(told: Serving) -> None:
    lines = told.log_lines()
    assert all(line.keys() >= RECORDED for line in lines)
    by_event: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_event.setdefault(line["event"], []).append(line)
    assert all(line["id"].startswith("req_") and line["route"] for line in by_event["request answered"])
    of_orders = ("attempt opened", "attempt ended", "failed over", "money booked", "price drifted")
    for event in ("job accepted", "job ended", *of_orders):
        assert all(len(line["config"]) == 12 and line["job"].startswith("job_") for line in by_event[event]), event
    assert all(line["attempt"] >= 1 for event in of_orders for line in by_event[event])
    assert {(line["job"], line["attempt"]) for line in by_event["failed over"]} <= {
        (line["job"], line["attempt"]) for line in by_event["attempt opened"]
    }
    jobs = {line["job"] for line in by_event["job accepted"]}
    assert jobs == {line["job"] for line in by_event["job ended"]} | {
        line["job"] for line in by_event["attempt opened"]
    }
    asked = {line["job"] for line in by_event["request answered"] if line.get("job")}
    assert jobs <= asked, "each job is found by the request that it came from"


def test_the_metrics_that_operators_need_are_there(told: Serving) -> None:
    text = told.http.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families.keys() >= METRICS
    cells = {"team", "seller", "model", "operation", "resolution", "quality"}
    assert all(set(sample.labels) == cells for sample in families["igw_images"].samples)
    spent = families["igw_spend_usd"].samples
    assert all(set(sample.labels) == cells | {"line"} for sample in spent)
    captured = sum(sample.value for sample in spent if sample.labels["line"] == "capture")
    assert captured >= 0.06
    assert {sample.labels["seller"] for sample in families["igw_cell_healthy"].samples} >= {"runapi", "runflow-runs"}
    assert {sample.labels["outcome"] for sample in families["igw_attempt_seconds"].samples} >= {"delivered", "failed"}
    assert all(family.documentation for family in families.values())
    assert not [name for name in families if name.endswith("_created")]


def test_labels_stay_within_closed_sets_whatever_is_asked(told: Serving) -> None:
    def labels() -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {(one.name, tuple(sorted(one.labels.items()))) for one in samples(told)}

    methods, before = ("GET", "POST", "PUT", "DELETE", "PATCH", "PROPFIND"), len(labels())
    began = time.monotonic()
    for number in range(2_000):
        path = (f"/{number}/x", f"/v1/jobs/{number}", IMAGES, f"/files/{number}", f"/callbacks/a/{number}/1/{number}")
        fields = {"prompt": "a", "model": f"model-{number}", "policy": f"policy-{number}", "user": str(number)}
        told.http.request(methods[number % 6], path[number % 5], json=fields)
    assert len(labels()) - before < 500, "a bounded number of routes, methods and statuses, with their buckets"
    for number in range(30):
        told.http.post(IMAGES, json={"prompt": "a", "model": f"other-{number}"})
        told.http.get(f"/other/{number}")
    settled = len(labels())
    for number in range(100):
        told.http.post(IMAGES, json={"prompt": "a", "model": f"another-{number}"})
        told.http.get(f"/another/{number}")
    assert len(labels()) == settled
    assert time.monotonic() - began < 60
