"""Whoever owns runs at the simulated Runflow, with bare HTTP: there is no client by somebody else to be had."""

import io
import time
from typing import Any

import httpx
from PIL import Image

from tests.vendors import Vendors

MODEL = "/v1/models/openai/gpt-image-2"
TERMINAL = {"succeeded", "failed", "canceled", "cancelled", "partial_succeeded"}


class Owner:
    def __init__(self, sandbox: Vendors, key: str = "rf_sandbox") -> None:
        self.sandbox = sandbox
        self.headers = {"authorization": f"Bearer {key}"}

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        return self.sandbox.http.request(method, f"/runflow{path}", json=body, headers=self.headers | headers)

    def create(self, body: object = None, *, edit: bool = False, **headers: str) -> httpx.Response:
        return self.ask("POST", f"{MODEL}{'/edit' if edit else ''}/runs", body or order(), **headers)

    def get(self, run_id: str) -> dict[str, Any]:
        answer = self.ask("GET", f"/v1/runs/{run_id}")
        assert answer.status_code == 200, answer.text
        run: dict[str, Any] = answer.json()
        return run

    def finished(self, run_id: str, seconds: float = 10.0) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while (run := self.get(run_id))["status_code"] not in TERMINAL:
            assert time.monotonic() < deadline, run["status_code"]
            time.sleep(0.01)
        return run

    def run(self, body: object = None, *, edit: bool = False) -> dict[str, Any]:
        created = self.create(body, edit=edit)
        assert created.status_code == 201, created.text
        return self.finished(created.json()["id"])


def order(prompt: str = "a lighthouse at dawn", **fields: Any) -> dict[str, Any]:
    """A low-quality order; what is not a field of the model's input goes beside it."""
    beside = {name: fields.pop(name) for name in ("callback_url", "metadata", "client_ref") if name in fields}
    return {"input": {"prompt": prompt, "quality": "low", **fields}, **beside}


def fetched(url: str) -> tuple[int, int, str]:
    data = httpx.get(url, trust_env=False).raise_for_status().content
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.width, image.height, str(image.format).lower()


def upload(owner: Owner, data: bytes, media_type: str = "image/png") -> dict[str, Any]:
    opened = owner.ask(
        "POST", "/v1/asset-uploads", {"filename": "a.png", "mime_type": media_type, "size_bytes": len(data)}
    )
    assert opened.status_code == 201, opened.text
    put = httpx.put(opened.json()["upload_url"], content=data, headers={"content-type": media_type}, trust_env=False)
    assert put.status_code == 200
    confirmed = owner.ask("POST", f"/v1/asset-uploads/{opened.json()['asset_id']}/confirmations", {})
    assert confirmed.status_code == 201
    record: dict[str, Any] = confirmed.json()
    return record
