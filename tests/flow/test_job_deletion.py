"""`DELETE /v1/jobs/{id}` on both stores: images and text go at once, the money stays."""

from base64 import b64encode
from pathlib import Path

import httpx

from tests.flow.flow_config import API_KEY, OTHER_TEAM_KEY, RUNAPI
from tests.flow.job_checks import make_unknown_id
from tests.flow.order_flow import FlowGateway, OrderFlow
from tests.harness.wait import wait_until


def request_job(gateway: FlowGateway, method: str, job_id: str, path: str = "", key: str = API_KEY) -> httpx.Response:
    return gateway.http.request(method, f"/v1/jobs/{job_id}{path}", headers={"authorization": f"Bearer {key}"})


def find_files(gateway: FlowGateway, job_id: str) -> list[Path]:
    return [path for path in gateway.folder.parent.rglob(f"{job_id}.*") if path.is_file()]


def test_deleted_job_leaves_only_its_money(flow: OrderFlow) -> None:
    secret = "xyzzy"
    image = flow.sandbox.fetch_sample_image(1024, 1024)
    job = flow.run_job(
        provider={"only": [RUNAPI]},
        operation="edit",
        image={"b64_json": b64encode(image).decode()},
        prompt=f"a {secret} lighthouse",
        labels=[f"{secret}-label"],
        metadata={"note": secret},
        webhook=f"https://example.com/{secret}",
    )
    job_id = job["id"]
    assert request_job(flow.gateway, "GET", job_id, "/images/0?w=320").status_code == 200
    flow.gateway.wait_until_idle()
    assert len(find_files(flow.gateway, job_id)) == 3
    assert secret in flow.dump_store()
    answer = request_job(flow.gateway, "DELETE", job_id)
    assert (answer.status_code, answer.json()) == (200, {"id": job_id, "object": "job.deleted", "deleted": True})
    assert find_files(flow.gateway, job_id) == []
    assert secret not in flow.dump_store()
    for method, path in (("GET", ""), ("GET", "/images/0"), ("GET", "/events"), ("POST", "/cancel")):
        refused = request_job(flow.gateway, method, job_id, path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "job_not_found")
    gone = flow.gateway.http.get(job["images"][0]["url"])
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, "image_deleted")
    assert "expired" not in gone.text
    listed = flow.gateway.http.get("/v1/jobs", headers={"authorization": f"Bearer {API_KEY}"}).json()["data"]
    assert job_id not in [entry["id"] for entry in listed]
    assert request_job(flow.gateway, "DELETE", job_id).status_code == 200, "it may be repeated"
    assert flow.sum_ledger_by_line()[RUNAPI, "capture"] == round(job["usage"]["cost"] * 1_000_000)


def test_running_job_must_be_cancelled_first(flow: OrderFlow) -> None:
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]})
    wait_until(lambda: flow.count_orders(RUNAPI) == 1, "the order was sent")
    for _ in range(2):
        refused = request_job(flow.gateway, "DELETE", job_id)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_running")
        assert f"POST /v1/jobs/{job_id}/cancel" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        assert request_job(flow.gateway, "POST", job_id, "/cancel").status_code == 202
    flow.sandbox.release_orders(vendor="runapi")
    job = flow.gateway.get_job(job_id)
    assert (job["status"], len(job["images"])) == ("cancelled", 1)
    flow.gateway.wait_until_idle()
    assert request_job(flow.gateway, "DELETE", job_id).status_code == 200
    assert find_files(flow.gateway, job_id) == []


def test_job_of_another_team_cannot_be_deleted(flow: OrderFlow) -> None:
    job_id = flow.order_images(RUNAPI)["id"]
    foreign = request_job(flow.gateway, "DELETE", job_id, key=OTHER_TEAM_KEY)
    unknown = request_job(flow.gateway, "DELETE", make_unknown_id(job_id))
    assert (foreign.status_code, foreign.json()["error"]) == (404, unknown.json()["error"])
    assert len(flow.gateway.get_job(job_id)["images"]) == 1


def test_repeated_request_does_not_buy_a_deleted_job_again(flow: OrderFlow) -> None:
    body = {"prompt": "a lighthouse", "provider": {"only": [RUNAPI]}}
    headers = {"idempotency-key": f"key-{flow.gateway.test_id}"}
    job_id = flow.gateway.post_job(body, **headers).json()["id"]
    flow.gateway.wait_until_idle()
    assert request_job(flow.gateway, "DELETE", job_id).status_code == 200
    repeated = flow.gateway.post_job(body, **headers)
    assert (repeated.status_code, repeated.json()["error"]["code"]) == (404, "job_not_found")
    assert flow.count_orders(RUNAPI) == 1
