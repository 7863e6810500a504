"""RunAPI's own Python SDK, using the sandbox."""

import io
from typing import Any

import httpx
from PIL import Image
from runapi.core import RequestOptions
from runapi.gpt_image_2 import GptImage2Client

ORDER_PARAMS = {"model": "gpt-image-2", "prompt": "a lighthouse at dawn"}
PRICE_BY_TIER = {"1k": "0.06", "2k": "0.10", "4k": "0.16"}
PIXELS_BY_TIER = {"1k": (655_360, 1_572_864), "2k": (1_572_865, 4_194_304), "4k": (4_194_305, 8_294_400)}


def make_runapi_client(
    runapi_url: str, key: str = "sk-sandbox", timeout: float = 20, **options: Any
) -> GptImage2Client:
    return GptImage2Client(key, base_url=runapi_url, timeout=timeout, retry_base_delay=0.01, **options)


def fetch_image(image_url: str) -> Image.Image:
    answer = httpx.get(image_url, trust_env=False).raise_for_status()
    assert answer.headers["content-type"] == "image/png"
    return Image.open(io.BytesIO(answer.content))


def make_key_options(key: str, **headers: str) -> RequestOptions:
    return RequestOptions(headers={"Idempotency-Key": key, **headers})
