"""Reads sellers' responses, large ones in a thread, so that the event loop is not blocked."""

from collections.abc import Callable
from typing import TypeVar

from gateway.large_body_thread import BodyThread
from providers.adapter import Answer
from providers.order_status import NoAnswer

ResultT = TypeVar("ResultT")

# Reading a response of this size takes about ten milliseconds. Only responses with images as base64 are larger.
MAX_INLINE_BYTES = 1 << 20

# Separate from the thread for request bodies: sixty megabytes of base64 from a seller would delay all clients.
_thread = BodyThread("response-parser", MAX_INLINE_BYTES)


async def parse_response(reader: Callable[[Answer], ResultT], answer: Answer | NoAnswer) -> ResultT | NoAnswer:
    """Reads the answer with `reader` and returns the result. Returns a NoAnswer unchanged."""
    return answer if isinstance(answer, NoAnswer) else await _thread.run(len(answer.body), reader, answer)
