"""Makes clients with OpenAI's Python SDK, and computes the expected charges."""

from typing import Any

import httpx
import openai

from tests.harness.gateway_runner import API_KEY, RunningGateway
from tests.harness.sandbox_runner import RunningSandbox

MODEL = "gpt-image-2"


def make_openai_client(sandbox: RunningSandbox, path: str = "/openai/v1", **options: Any) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=sandbox.url + path,
        api_key=options.pop("api_key", "sk-sandbox"),
        max_retries=options.pop("max_retries", 0),
        http_client=openai.DefaultHttpxClient(trust_env=False),
        **options,
    )


def make_gateway_client(gateway: RunningGateway, **options: Any) -> openai.OpenAI:
    """Makes the SDK with its defaults, including retries.

    A response with the status `release_orders_after` lets the sandbox finish its orders before the SDK retries.
    """
    release_status = options.pop("release_orders_after", None)

    def release_orders(response: httpx.Response) -> None:
        if response.status_code == release_status:
            gateway.sandbox.release_orders()

    http = openai.DefaultHttpxClient(trust_env=False, event_hooks={"response": [release_orders]})
    return openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=options.pop("api_key", API_KEY), http_client=http, **options
    )


def compute_cost_micros(usage: Any, text_in: float = 5, image_in: float = 8, image_out: float = 30) -> float:
    """Computes the charge. (USD per million tokens is micro-USD per token.)"""
    details = usage.input_tokens_details
    assert usage.input_tokens == details.text_tokens + details.image_tokens
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    return details.text_tokens * text_in + details.image_tokens * image_in + usage.output_tokens * image_out


def sum_openai_charges(sandbox: RunningSandbox) -> int:
    return sum(line["usd_micros"] for line in sandbox.list_charges("openai"))
