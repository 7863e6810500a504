"""A storage backend in memory, shared by the replicas of a test."""

from collections.abc import AsyncIterator

from gateway.assets.backend import CHUNK_BYTES, ImageData, ObjectNotFound


class MemoryBackend:
    """Implements the StorageBackend protocol. `objects`: the stored bytes by key."""

    stream_buffer_bytes = 0

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    async def put(self, key: str, data: ImageData, media_type: str) -> None:
        self.objects[key] = bytes(data)

    async def get(self, key: str) -> bytes:
        if key not in self.objects:
            raise ObjectNotFound(f"no object has the key {key}")
        return self.objects[key]

    async def open_stream(self, key: str) -> "MemoryStream":
        return MemoryStream(await self.get(key))

    async def check_free_space(self) -> None:
        """There is always room."""

    async def delete_prefix(self, prefix: str) -> int:
        keys = [key for key in self.objects if key.startswith(prefix)]
        for key in keys:
            del self.objects[key]
        return len(keys)

    async def close(self) -> None:
        """The objects stay, as on a disk."""


class MemoryStream:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.read_range(0, self.size)

    async def read_range(self, start: int, end: int) -> AsyncIterator[bytes]:
        for position in range(start, end, CHUNK_BYTES):
            yield self._data[position : min(end, position + CHUNK_BYTES)]

    def close(self) -> None:
        """Nothing is open."""
