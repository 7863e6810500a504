"""Streams an order as server-sent events: partial images first, then one `completed` event for each image."""

import asyncio
import dataclasses
import math
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from sandbox.image_renderer import ImageRecipe
from sandbox.openai.errors import OpenaiError
from sandbox.openai.order import OpenaiOrder

EVENT_PREFIXES = {"generate": "image_generation", "edit": "image_edit"}


async def stream_events(order: OpenaiOrder) -> AsyncIterator[bytes]:
    """Streams the events. Ends without `[DONE]`, as OpenAI's own sample; a late failure is an `error` event."""
    async for frame in _stream_partial_images(order):
        yield frame
    await order.wait()
    try:
        images = order.get_images()
    except OpenaiError as error:
        yield _format_sse({"type": "error", **error.body})
        return
    for index, image in enumerate(images):
        yield _format_sse(await _build_completed_event(order, index, image))


async def _stream_partial_images(order: OpenaiOrder) -> AsyncIterator[bytes]:
    """Streams the partial images, evenly spread over the duration of the order."""
    count = order.params.partial_images
    for number in range(count):
        await _wait_until_share(order, (number + 1) / (count + 1))
        for image in order.order.images:
            partial_image = dataclasses.replace(image, note=f"{image.note} partial {number + 1} of {count}")
            yield _format_sse(
                {**await _build_event(order, "partial_image", partial_image), "partial_image_index": number}
            )


async def _wait_until_share(order: OpenaiOrder, share: float) -> None:
    simulated = order.order
    if math.isinf(simulated.ends_at):
        await order.wait()
    await asyncio.sleep(max(0.0, simulated.starts_at + share * (simulated.ends_at - simulated.starts_at) - time.time()))


async def _build_completed_event(order: OpenaiOrder, index: int, image: ImageRecipe) -> dict[str, Any]:
    """Builds a `completed` event. The first one's usage includes the input tokens, so that all add up to the charge."""
    tokens = order.params.compute_tokens(1, with_inputs=index == 0)
    return {**await _build_event(order, "completed", image), "usage": tokens.to_json()}


async def _build_event(order: OpenaiOrder, name: str, image: ImageRecipe) -> dict[str, Any]:
    return {
        "type": f"{EVENT_PREFIXES[order.params.operation]}.{name}",
        "b64_json": await order.render_base64(image),
        "created_at": int(time.time()),
        **order.list_common_fields(),
    }


def _format_sse(event: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), msgspec.json.encode(event))
