"""Orders at the simulated RunAPI without any SDK: what a test needs to say, and no more."""

import io
import time
from typing import Any

import httpx
from PIL import Image

from tests.vendors import Vendors

ORDER = {"model": "gpt-image-2", "prompt": "a lighthouse at dawn"}
GOOD_KEY = {"authorization": "Bearer sk-sandbox"}


class Buyer:
    def __init__(self, sandbox: Vendors) -> None:
        self.sandbox = sandbox

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = GOOD_KEY | arguments.pop("headers", {})
        return self.sandbox.http.request(method, f"/runapi{path}", headers=headers, **arguments)

    def create(self, action: str = "text_to_image", key: str | None = None, **fields: Any) -> httpx.Response:
        headers = {"idempotency-key": key} if key else {}
        return self.request("POST", f"/api/v1/gpt_image_2/{action}", json=ORDER | fields, headers=headers)

    def edit(self, *sources: str, **fields: Any) -> dict[str, Any]:
        """An edit, to its end."""
        return self.finished(self.create("edit_image", source_image_urls=sources, **fields), "edit_image")

    def generate(self, **fields: Any) -> dict[str, Any]:
        """A text-to-image order, to its end."""
        return self.finished(self.create(**fields))

    def poll(self, task_id: str, action: str = "text_to_image") -> httpx.Response:
        return self.request("GET", f"/api/v1/gpt_image_2/{action}/{task_id}")

    def finished(self, created: httpx.Response, action: str = "text_to_image") -> dict[str, Any]:
        assert created.is_success, created.text
        deadline = time.monotonic() + 10
        while (task := self.poll(created.json()["id"], action).json())["status"] not in ("completed", "failed"):
            assert time.monotonic() < deadline, task
            time.sleep(0.02)
        return dict(task)


def size_of(link: str) -> tuple[int, int]:
    """The real pixels behind a link."""
    with Image.open(io.BytesIO(httpx.get(link, trust_env=False).raise_for_status().content)) as image:
        return image.size
