"""A client of the simulated OpenAI over plain HTTP, for tests that need no SDK."""

from typing import Any

import httpx

from tests.harness.sandbox_runner import RunningSandbox

AUTH_HEADERS = {"authorization": "Bearer sk-sandbox"}
SUBMIT_PATH = "/openai/v1/images/generations"
ORDER_BODY = {"model": "gpt-image-2", "prompt": "a lighthouse", "quality": "low"}


def submit_order(sandbox: RunningSandbox, **fields: Any) -> httpx.Response:
    return sandbox.http.post(SUBMIT_PATH, json=ORDER_BODY | fields, headers=AUTH_HEADERS)
