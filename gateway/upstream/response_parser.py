"""Reads sellers' responses, large ones in a thread, so that the event loop is not blocked."""

from collections.abc import Callable
from typing import TypeVar

from gateway.body_thread import BodyThread
from providers.adapter import Answer
from providers.order_status import NoAnswer

ResultT = TypeVar("ResultT")

# Takes about ten milliseconds. Only responses that contain images as base64 are larger.
MAX_INLINE_BYTES = 1 << 20

# Not the thread for request bodies: sixty megabytes of a seller's base64 would delay every client's JSON.
_thread = BodyThread("response-reader", MAX_INLINE_BYTES)


async def parse_response(reader: Callable[[Answer], ResultT], answer: Answer | NoAnswer) -> ResultT | NoAnswer:
    """Returns what `reader` makes of the answer, or the NoAnswer itself."""
    return answer if isinstance(answer, NoAnswer) else await _thread.run(len(answer.body), reader, answer)
