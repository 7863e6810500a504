"""Pictures in S3, Google Cloud Storage or Azure, or in this process's memory: everything that obstore reaches."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import MemoryStore, ObjectStore, from_url

from gateway.assets.base import CHUNK_BYTES, Missing, ShelfRefused, ShelfUnavailable, ShelfUnfit

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import RetryConfig

# Our own tries come after these, further apart.
RETRYING: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
# What an address may say of itself; keys and all else come from the environment, where no log shows them.
_OPTIONS = {
    "s3": {"endpoint": "endpoint", "region": "region"},
    "gs": {},
    "az": {"account": "account_name", "endpoint": "endpoint"},
    "memory": {},
}
SCHEMES = frozenset(_OPTIONS)
_STATUS = re.compile(r"status:? (\d{3})", re.IGNORECASE)
_KEYS_OF_ONE_CALL = 1000


class Bucket:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._name = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        self.local = parts.scheme == "memory"
        self._store = _store(self._name, parts.scheme, parts.query)

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        # In one call, whatever its size: parts that were sent before a cancellation would lie there for ever.
        with _explained(self._name, absent=f"{self._name} does not exist"):
            await self._store.put_async(key, data, attributes={"Content-Type": media_type}, use_multipart=False)

    async def get(self, key: str) -> bytes:
        with _explained(self._name):
            found = await self._store.get_async(key)
            return bytes(await found.bytes_async())

    async def stream(self, key: str) -> "BucketStream":
        with _explained(self._name):
            return BucketStream(await self._store.get_async(key), self._name)

    async def exists(self, key: str) -> bool:
        try:
            with _explained(self._name):
                await self._store.head_async(key)
        except Missing:
            return False
        return True

    async def delete_prefix(self, prefix: str) -> int:
        deleted = 0
        with _explained(self._name, absent=f"{self._name} does not exist"):
            async for found in self._store.list(prefix, chunk_size=_KEYS_OF_ONE_CALL):
                await self._store.delete_async([entry["path"] for entry in found])
                deleted += len(found)
        return deleted

    async def check_room(self) -> None:
        """There is always room."""

    async def close(self) -> None:
        """Connections end with the object."""


class BucketStream:
    def __init__(self, found: "GetResult", name: str) -> None:
        self.size = found.meta["size"]
        self._found: GetResult | None = found
        self._name = name

    def close(self) -> None:
        """Drops the response: the library closes its connection with it."""
        self._found = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._found is None:
            raise ShelfUnavailable(f"{self._name}: this stream is closed")
        chunks = aiter(self._found.stream(CHUNK_BYTES))
        while True:
            with _explained(self._name):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            # What comes may be larger: what lies in memory, for one, comes whole.
            view = memoryview(chunk)
            for start in range(0, len(view), CHUNK_BYTES):
                yield bytes(view[start : start + CHUNK_BYTES])


@contextmanager
def _explained(name: str, absent: str | None = None) -> Iterator[None]:
    """In our words: the library's quote addresses, answers and at times the name of a credential."""
    try:
        yield
    except FileNotFoundError:
        raise (ShelfRefused(absent) if absent else Missing("no such picture in the object store")) from None
    except (BaseError, OSError) as error:
        raise _translated(name, error) from None


def _translated(name: str, error: Exception) -> ShelfUnavailable:
    """Not every kind of call tells a refusal from other trouble by its class."""
    found = _STATUS.search(str(error))
    status = int(found[1]) if found else None
    if status in (401, 403) or isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return ShelfRefused(f"{name} may not be used with the credentials of this process")
    said = f"answers with {status}" if status else "does not answer as it should, or not at all"
    return ShelfUnavailable(f"{name} {said}")


def _store(name: str, scheme: str, query: str) -> ObjectStore:
    if scheme == "memory":
        return MemoryStore()
    known = _OPTIONS[scheme]
    options = dict(parse_qsl(query, keep_blank_values=True))
    if strange := options.keys() - known.keys():
        raise ShelfUnfit(f"{name}: unknown option {sorted(strange)[0][:40]!r}; known: {', '.join(known) or 'none'}")
    config: dict[str, Any] = {known[option]: value for option, value in options.items()}
    if options.get("endpoint", "").startswith("http://"):
        # Never without need: whatever is said here replaces all that the environment says about connections.
        config["client_options"] = {"allow_http": True}
    try:
        return from_url(name, retry_config=RETRYING, **config)
    except (BaseError, ValueError, OSError) as error:
        said = re.split(r"\n", str(error), maxsplit=1)[0]
        raise ShelfUnfit(f"{name} cannot be used: {said}") from None
