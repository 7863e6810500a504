"""Encodes images as base64, chunk by chunk."""

import asyncio
from binascii import b2a_base64
from collections.abc import AsyncIterator

from gateway.assets.storage import ObjectStream, StorageUnavailable


class Base64Encoder:
    """Encodes the images of all responses, one chunk in each turn of the event loop: fifty ready chunks in one turn
    would block it for 15 ms."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def encode(self, stream: ObjectStream) -> AsyncIterator[bytes]:
        """Yields the base64 of the image. Raises StorageUnavailable if the stream ends before its size."""
        rest, received_bytes = b"", 0
        async for chunk in stream:
            received_bytes += len(chunk)
            data = rest + chunk
            # Only whole groups of three bytes can be encoded separately.
            whole_bytes = len(data) - len(data) % 3
            rest = data[whole_bytes:]
            async with self._turn:
                encoded = b2a_base64(memoryview(data)[:whole_bytes], newline=False)
                await asyncio.sleep(0)
            yield encoded
        if received_bytes != stream.size:
            raise StorageUnavailable(f"an image of {stream.size} bytes ended after {received_bytes} bytes")
        if rest:
            yield b2a_base64(rest, newline=False)


def compute_base64_size(size_bytes: int) -> int:
    return (size_bytes + 2) // 3 * 4
