"""The small images that this process stored last: a request that waits for them need not read them from the storage."""

from gateway.memory_budget import SMALL_BODY_BYTES

# Larger images are streamed from the storage. Together the kept ones have 16 MiB at most.
MAX_IMAGE_BYTES, MAX_IMAGES = SMALL_BODY_BYTES, 256


class UnreadImages:
    """The content of the last images, by key. Each is given away once: repeated requests are rare."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def add(self, key: str, content: bytes) -> None:
        """Adds an image that is stored durably. Ignores a large one."""
        if len(content) <= MAX_IMAGE_BYTES:
            self._contents[key] = content
            if len(self._contents) > MAX_IMAGES:
                del self._contents[next(iter(self._contents))]

    def take(self, key: str) -> bytes | None:
        """Removes and returns the content; None if it must be read from the storage."""
        return self._contents.pop(key, None)

    def discard(self, prefix: str) -> None:
        """Removes the images of a deleted job."""
        for key in [key for key in self._contents if key.startswith(prefix)]:
            del self._contents[key]
