"""LiteLLM's Router with one deployment and its default retries."""

import asyncio
import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from litellm import Router


async def send_order(order: dict) -> int:
    params = {"model": "openai/gpt-image-2", "api_base": f"{order['url']}/v1", "api_key": order["key"]}
    router = Router(model_list=[{"model_name": "image", "litellm_params": params}])
    try:
        await router.aimage_generation(model="image", prompt=order["prompt"], extra_body=order["more"])
    except Exception as error:  # noqa: BLE001  its own exceptions, with the status in them
        return int(getattr(error, "status_code", 0) or 0)
    return 200


for line in sys.stdin:
    print(json.dumps({"status": asyncio.run(send_order(json.loads(line)))}), flush=True)
