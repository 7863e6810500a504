"""A sale told as server-sent events: partial pictures on the way, then one `completed` for each picture."""

import asyncio
import dataclasses
import math
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from sandbox.openai_errors import RefusedError
from sandbox.openai_sale import Sale
from sandbox.pictures import Picture

EVENTS = {"generate": "image_generation", "edit": "image_edit"}


async def frames(sale: Sale) -> AsyncIterator[bytes]:
    """Ends without `[DONE]`, as OpenAI's own sample does. A failure after the first byte is an `error` event."""
    async for frame in _partials(sale):
        yield frame
    await sale.over()
    try:
        made = sale.made()
    except RefusedError as failure:
        yield _frame({"type": "error", **failure.body})
        return
    for index, picture in enumerate(made):
        yield _frame(await _completed(sale, index, picture))


async def _partials(sale: Sale) -> AsyncIterator[bytes]:
    """Evenly spread over the time the order takes."""
    count = sale.wanted.partial_images
    for number in range(count):
        await _until(sale, (number + 1) / (count + 1))
        for picture in sale.order.pictures:
            sketch = dataclasses.replace(picture, note=f"{picture.note} partial {number + 1} of {count}")
            yield _frame({**await _event(sale, "partial_image", sketch), "partial_image_index": number})


async def _until(sale: Sale, share: float) -> None:
    order = sale.order
    if math.isinf(order.ends):
        await sale.over()
    await asyncio.sleep(max(0.0, order.starts + share * (order.ends - order.starts) - time.time()))


async def _completed(sale: Sale, index: int, picture: Picture) -> dict[str, Any]:
    """The first picture's usage includes what was sent in, so that the events together add up to the charge."""
    usage = sale.wanted.usage(1, inputs=index == 0)
    return {**await _event(sale, "completed", picture), "usage": usage.shown()}


async def _event(sale: Sale, name: str, picture: Picture) -> dict[str, Any]:
    return {
        "type": f"{EVENTS[sale.wanted.operation]}.{name}",
        "b64_json": await sale.drawn(picture),
        "created_at": int(time.time()),
        **sale.common(),
    }


def _frame(event: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), msgspec.json.encode(event))
