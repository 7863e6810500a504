"""Pictures in S3, Google Cloud Storage or Azure, or in this process's memory: everything that obstore reaches."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import MemoryStore, ObjectStore, from_url

from gateway.assets.backend import (
    CHUNK_BYTES,
    ObjectNotFound,
    StorageAccessDenied,
    StorageMisconfigured,
    StorageUnavailable,
)

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import RetryConfig

# Our own tries come after these, further apart.
RETRY_CONFIG: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
# What an address may say of itself; keys and all else come from the environment, where no log shows them.
_URL_OPTIONS = {
    "s3": {"endpoint": "endpoint", "region": "region"},
    "gs": {},
    "az": {"account": "account_name", "endpoint": "endpoint"},
    "memory": {},
}
SCHEMES = frozenset(_URL_OPTIONS)
_STATUS_PATTERN = re.compile(r"status:? (\d{3})", re.IGNORECASE)
_KEYS_PER_CALL = 1000


class BucketBackend:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._name = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        self.is_local = parts.scheme == "memory"
        self._store = _make_object_store(self._name, parts.scheme, parts.query)

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        # In one call, whatever its size: parts that were sent before a cancellation would lie there for ever.
        with _translate_errors(self._name, not_found_message=f"{self._name} does not exist"):
            await self._store.put_async(key, data, attributes={"Content-Type": media_type}, use_multipart=False)

    async def get(self, key: str) -> bytes:
        with _translate_errors(self._name):
            result = await self._store.get_async(key)
            return bytes(await result.bytes_async())

    async def open_stream(self, key: str) -> "BucketStream":
        with _translate_errors(self._name):
            return BucketStream(await self._store.get_async(key), self._name)

    async def exists(self, key: str) -> bool:
        try:
            with _translate_errors(self._name):
                await self._store.head_async(key)
        except ObjectNotFound:
            return False
        return True

    async def delete_prefix(self, prefix: str) -> int:
        deleted = 0
        with _translate_errors(self._name, not_found_message=f"{self._name} does not exist"):
            async for entries in self._store.list(prefix, chunk_size=_KEYS_PER_CALL):
                await self._store.delete_async([entry["path"] for entry in entries])
                deleted += len(entries)
        return deleted

    async def check_free_space(self) -> None:
        """There is always room."""

    async def close(self) -> None:
        """Connections end with the object."""


class BucketStream:
    def __init__(self, result: "GetResult", name: str) -> None:
        self.size = result.meta["size"]
        self._result: GetResult | None = result
        self._name = name

    def close(self) -> None:
        """Drops the response: the library closes its connection with it."""
        self._result = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._result is None:
            raise StorageUnavailable(f"{self._name}: this stream is closed")
        chunks = aiter(self._result.stream(CHUNK_BYTES))
        while True:
            with _translate_errors(self._name):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            # What comes may be larger: what lies in memory, for one, comes whole.
            view = memoryview(chunk)
            for start in range(0, len(view), CHUNK_BYTES):
                yield bytes(view[start : start + CHUNK_BYTES])


@contextmanager
def _translate_errors(name: str, not_found_message: str | None = None) -> Iterator[None]:
    """In our words: the library's quote addresses, answers and at times the name of a credential."""
    try:
        yield
    except FileNotFoundError:
        raise (
            StorageAccessDenied(not_found_message)
            if not_found_message
            else ObjectNotFound("no such picture in the object store")
        ) from None
    except (BaseError, OSError) as error:
        raise _translate_error(name, error) from None


def _translate_error(name: str, error: Exception) -> StorageUnavailable:
    """Not every kind of call tells a refusal from other trouble by its class."""
    match = _STATUS_PATTERN.search(str(error))
    status = int(match[1]) if match else None
    if status in (401, 403) or isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return StorageAccessDenied(f"{name} may not be used with the credentials of this process")
    error_text = f"answers with {status}" if status else "does not answer as it should, or not at all"
    return StorageUnavailable(f"{name} {error_text}")


def _make_object_store(name: str, scheme: str, query: str) -> ObjectStore:
    if scheme == "memory":
        return MemoryStore()
    config_names = _URL_OPTIONS[scheme]
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown_options := options.keys() - config_names.keys():
        raise StorageMisconfigured(
            f"{name}: unknown option {sorted(unknown_options)[0][:40]!r}; known: {', '.join(config_names) or 'none'}"
        )
    config: dict[str, Any] = {config_names[option]: value for option, value in options.items()}
    if options.get("endpoint", "").startswith("http://"):
        # Never without need: whatever is said here replaces all that the environment says about connections.
        config["client_options"] = {"allow_http": True}
    try:
        return from_url(name, retry_config=RETRY_CONFIG, **config)
    except (BaseError, ValueError, OSError) as error:
        error_text = re.split(r"\n", str(error), maxsplit=1)[0]
        raise StorageMisconfigured(f"{name} cannot be used: {error_text}") from None
