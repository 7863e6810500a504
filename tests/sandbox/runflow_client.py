"""A client of the simulated Runflow over plain HTTP, since no public client of the API exists."""

import io
from typing import Any

import httpx
from PIL import Image

from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_for_value

MODEL_PATH = "/v1/models/openai/gpt-image-2"
TERMINAL_STATUSES = {"succeeded", "failed", "canceled", "cancelled", "partial_succeeded"}


class RunflowClient:
    def __init__(self, sandbox: RunningSandbox, key: str = "rf_sandbox") -> None:
        self.sandbox = sandbox
        self.headers = {"authorization": f"Bearer {key}"}

    def request(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        return self.sandbox.http.request(method, f"/runflow{path}", json=body, headers=self.headers | headers)

    def create_run(self, body: object = None, *, edit: bool = False, **headers: str) -> httpx.Response:
        return self.request("POST", f"{MODEL_PATH}{'/edit' if edit else ''}/runs", body or build_order(), **headers)

    def get_run(self, run_id: str) -> dict[str, Any]:
        response = self.request("GET", f"/v1/runs/{run_id}")
        assert response.status_code == 200, response.text
        run: dict[str, Any] = response.json()
        return run

    def wait_until_finished(self, run_id: str, timeout: float = 10.0) -> dict[str, Any]:
        return wait_for_value(
            lambda: self.get_run(run_id),
            lambda run: run["status_code"] in TERMINAL_STATUSES,
            "the run has finished",
            timeout_seconds=timeout,
        )

    def run_to_end(self, body: object = None, *, edit: bool = False) -> dict[str, Any]:
        created = self.create_run(body, edit=edit)
        assert created.status_code == 201, created.text
        return self.wait_until_finished(created.json()["id"])


def build_order(prompt: str = "a lighthouse at dawn", **fields: Any) -> dict[str, Any]:
    """Builds a low-quality order; the options of a run go beside the model's input."""
    options = {name: fields.pop(name) for name in ("callback_url", "metadata", "client_ref") if name in fields}
    return {"input": {"prompt": prompt, "quality": "low", **fields}, **options}


def fetch_image_info(url: str) -> tuple[int, int, str]:
    data = httpx.get(url, trust_env=False).raise_for_status().content
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.width, image.height, str(image.format).lower()


def upload_asset(runflow_client: RunflowClient, data: bytes, media_type: str = "image/png") -> dict[str, Any]:
    created = runflow_client.request(
        "POST", "/v1/asset-uploads", {"filename": "a.png", "mime_type": media_type, "size_bytes": len(data)}
    )
    assert created.status_code == 201, created.text
    put = httpx.put(created.json()["upload_url"], content=data, headers={"content-type": media_type}, trust_env=False)
    assert put.status_code == 200
    confirmed = runflow_client.request("POST", f"/v1/asset-uploads/{created.json()['asset_id']}/confirmations", {})
    assert confirmed.status_code == 201
    record: dict[str, Any] = confirmed.json()
    return record
