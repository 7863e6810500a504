"""The storage backend protocol, and the errors that every backend raises."""

from collections.abc import AsyncIterator
from mmap import mmap
from typing import Protocol

from gateway.events import ComponentError

# Large enough that reading a chunk costs little compared with sending it, and small enough that the chunks of a
# thousand readers fit into memory. A multiple of 3, so that its base64 has no padding.
CHUNK_BYTES = 192 * 1024
# An image in memory, or a map of a file.
ImageData = bytes | mmap


class StorageError(ComponentError):
    """A storage operation failed. The text is written for operators."""

    component = "storage"


class StorageUnavailable(StorageError):
    """The storage is unreachable or failing at the moment. A retry is safe and may succeed."""


class StorageFull(StorageUnavailable):
    """The storage has no space for another image."""


class StorageAccessDenied(StorageUnavailable):
    """The storage refuses this process: wrong credentials, unknown bucket, read-only folder.

    At startup that is a configuration error; later it may be transient.
    """


class StorageMisconfigured(StorageError):
    """The storage URL cannot be used; the text says what to change."""


class ObjectNotFound(StorageError):
    """No image is stored under this key: it was never stored, or has been deleted."""


class ForeignObject(StorageError):
    """The object under this key was not stored by the gateway: it is, for instance, a folder or a link. A retry does
    not help."""


class ObjectStream(Protocol):
    """One image as it was when the stream was opened, in chunks of at most CHUNK_BYTES.

    The caller must close it, whether or not it read from it: `with closing(await storage.open_stream(key)) as stream`.
    """

    size: int

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def read_range(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Reads from `start` to before `end`."""
        ...

    def close(self) -> None:
        """Closes the stream and ends a read in progress. It may be called again."""
        ...


class StorageBackend(Protocol):
    """Stores image bytes by key. The caller has validated the keys.

    `stream_buffer_bytes`: the memory of a stream that is being read, beside its current chunk.
    """

    stream_buffer_bytes: int

    async def put(self, key: str, data: ImageData, media_type: str) -> None: ...

    async def open_stream(self, key: str) -> ObjectStream: ...

    async def get(self, key: str) -> bytes: ...

    async def check_free_space(self) -> None:
        """Raises StorageFull if a large image would not fit."""

    async def delete_prefix(self, prefix: str) -> int: ...

    async def close(self) -> None: ...
