"""What any place for pictures can do, and what it says when it cannot."""

from collections.abc import AsyncIterator
from typing import Protocol

from gateway.events import ComponentError

# Large enough that a chunk costs more to send than to fetch, small enough that a thousand readers fit into memory.
CHUNK_BYTES = 256 * 1024


class StorageError(ComponentError):
    """The object store did not do it, in words for an operator."""

    component = "storage"


class StorageUnavailable(StorageError):
    """Not to be reached, forbidden or in trouble just now: the same again later is safe, and worth a try."""


class StorageFull(StorageUnavailable):
    """There is no room for another picture."""


class StorageAccessDenied(StorageUnavailable):
    """It is there and refuses this process: wrong credentials, no such bucket, a folder that may not be written.

    At the start that is a mistake in the configuration; later it may pass.
    """


class StorageMisconfigured(StorageError):
    """It cannot be used as it is configured: says what to change."""


class ObjectNotFound(StorageError):
    """No such picture lies here: never put, or deleted since."""


class ForeignObject(StorageError):
    """Something that the gateway did not store lies at this key, such as a folder or a link. A retry does not help."""


class ObjectStream(Protocol):
    """One picture, in chunks of at most CHUNK_BYTES, as it was when it was opened.

    The caller must close it, read or not: `with closing(await shelf.stream(key)) as stream`.
    """

    size: int

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None:
        """Safe to repeat, and to do while it is being read, which then ends."""
        ...


class StorageBackend(Protocol):
    """Where pictures lie. Keys have been looked at before they come here.

    `is_local`: other machines do not see them, unless somebody has seen to it that they do.
    """

    @property
    def is_local(self) -> bool: ...

    async def put(self, key: str, data: bytes, media_type: str) -> None: ...

    async def open_stream(self, key: str) -> ObjectStream: ...

    async def get(self, key: str) -> bytes: ...

    async def exists(self, key: str) -> bool: ...

    async def check_free_space(self) -> None:
        """ShelfFull if a large picture would not fit."""

    async def delete_prefix(self, prefix: str) -> int: ...

    async def close(self) -> None: ...
