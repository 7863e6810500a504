"""A client of the simulated RunAPI over plain HTTP."""

import io
from typing import Any

import httpx
from PIL import Image

from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_for_value

ORDER_BODY = {"model": "gpt-image-2", "prompt": "a lighthouse at dawn"}
AUTH_HEADERS = {"authorization": "Bearer sk-sandbox"}


class RunapiClient:
    def __init__(self, sandbox: RunningSandbox) -> None:
        self.sandbox = sandbox

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = AUTH_HEADERS | arguments.pop("headers", {})
        return self.sandbox.http.request(method, f"/runapi{path}", headers=headers, **arguments)

    def create_task(self, action: str = "text_to_image", key: str | None = None, **fields: Any) -> httpx.Response:
        headers = {"idempotency-key": key} if key else {}
        return self.request("POST", f"/api/v1/gpt_image_2/{action}", json=ORDER_BODY | fields, headers=headers)

    def run_edit(self, *sources: str, **fields: Any) -> dict[str, Any]:
        """Creates an edit and waits until it has finished."""
        return self.wait_until_finished(
            self.create_task("edit_image", source_image_urls=sources, **fields), "edit_image"
        )

    def run_generation(self, **fields: Any) -> dict[str, Any]:
        """Creates a text-to-image task and waits until it has finished."""
        return self.wait_until_finished(self.create_task(**fields))

    def poll_task(self, task_id: str, action: str = "text_to_image") -> httpx.Response:
        return self.request("GET", f"/api/v1/gpt_image_2/{action}/{task_id}")

    def wait_until_finished(self, created: httpx.Response, action: str = "text_to_image") -> dict[str, Any]:
        assert created.is_success, created.text
        task_id = created.json()["id"]
        return wait_for_value(
            lambda: dict(self.poll_task(task_id, action).json()),
            lambda task: task["status"] in ("completed", "failed"),
            "the task has finished",
        )


def fetch_image_size(image_url: str) -> tuple[int, int]:
    """Returns the actual size of the image at a URL."""
    with Image.open(io.BytesIO(httpx.get(image_url, trust_env=False).raise_for_status().content)) as image:
        return image.size
