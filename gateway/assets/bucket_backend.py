"""Stores images in S3, Google Cloud Storage or Azure, or in this process's memory, through obstore."""

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
    ImageData,
    ObjectNotFound,
    StorageAccessDenied,
    StorageMisconfigured,
    StorageUnavailable,
)

if TYPE_CHECKING:
    from obstore import Bytes, GetOptions, ObjectMeta
    from obstore.store import RetryConfig

# Retries within one call. The gateway retries later with longer backoffs.
RETRY_CONFIG: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
# A stream holds one range in memory.
RANGE_BYTES = 4 * CHUNK_BYTES
# The options that a storage URL may contain. Credentials come from the environment, which no log shows.
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
    """A bucket, or a part of one."""

    stream_buffer_bytes = RANGE_BYTES

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._name = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        self._store = _make_object_store(self._name, parts.scheme, parts.query)

    async def put(self, key: str, data: ImageData, media_type: str) -> None:
        # Sends an image of any size in one request: a cancelled multipart upload would leave its parts in the bucket.
        with _translate_errors(self._name, not_found_message=f"{self._name} does not exist"):
            await self._store.put_async(key, data, attributes={"Content-Type": media_type}, use_multipart=False)

    async def get(self, key: str) -> bytes:
        with _translate_errors(self._name):
            result = await self._store.get_async(key)
            return bytes(await result.bytes_async())

    async def open_stream(self, key: str) -> "BucketStream":
        with _translate_errors(self._name):
            return BucketStream(self._store, self._name, await self._store.head_async(key))

    async def delete_prefix(self, prefix: str) -> int:
        deleted = 0
        with _translate_errors(self._name, not_found_message=f"{self._name} does not exist"):
            async for entries in self._store.list(prefix, chunk_size=_KEYS_PER_CALL):
                await self._store.delete_async([entry["path"] for entry in entries])
                deleted += len(entries)
        return deleted

    async def check_free_space(self) -> None:
        """Does nothing: a bucket has no size limit."""

    async def close(self) -> None:
        """Does nothing: connections close with the object."""


class BucketStream:
    """An ObjectStream that requests the image in ranges, each when its first chunk is read.

    The client library ends each request after 30 s. A slow client of the gateway could not read a large image within
    that time if it came with one request.
    """

    def __init__(self, store: ObjectStore, name: str, meta: "ObjectMeta") -> None:
        self.size = meta["size"]
        self._store, self._name, self._meta = store, name, meta
        self._is_closed = False

    def close(self) -> None:
        """Lets the stream request no more ranges. Between ranges it holds no connection."""
        self._is_closed = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.read_range(0, self.size)

    async def read_range(self, start: int, end: int) -> AsyncIterator[bytes]:
        for position in range(start, end, RANGE_BYTES):
            view = memoryview(await self._request_range(position, min(position + RANGE_BYTES, end)))
            for offset in range(0, len(view), CHUNK_BYTES):
                yield bytes(view[offset : offset + CHUNK_BYTES])

    async def _request_range(self, start: int, end: int) -> "Bytes":
        """Reads a range, if the image is still the one that was opened."""
        if self._is_closed:
            raise StorageUnavailable(f"{self._name}: this stream is closed")
        with _translate_errors(self._name):
            options: GetOptions = {"range": (start, end), "if_match": self._meta["e_tag"]}
            result = await self._store.get_async(self._meta["path"], options=options)
            return await result.bytes_async()


@contextmanager
def _translate_errors(name: str, not_found_message: str | None = None) -> Iterator[None]:
    """Translates errors of the library, since their texts quote URLs, responses and sometimes names of credentials."""
    try:
        yield
    except FileNotFoundError:
        raise (
            StorageAccessDenied(not_found_message)
            if not_found_message
            else ObjectNotFound("no image is stored under this key")
        ) from None
    except (BaseError, OSError) as error:
        raise _translate_error(name, error) from None


def _translate_error(name: str, error: Exception) -> StorageUnavailable:
    """Translates one error. Reads the HTTP status from its text, since some calls raise a general exception for refused
    credentials."""
    match = _STATUS_PATTERN.search(str(error))
    status = int(match[1]) if match else None
    if status in (401, 403) or isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return StorageAccessDenied(f"{name} refuses the credentials of this process")
    error_text = f"responded with status {status}" if status else "is unreachable or returned an invalid response"
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
        # Set only if needed: these options replace all connection options of the environment.
        config["client_options"] = {"allow_http": True}
    try:
        return from_url(name, retry_config=RETRY_CONFIG, **config)
    except (BaseError, ValueError, OSError) as error:
        error_text = re.split(r"\n", str(error), maxsplit=1)[0]
        raise StorageMisconfigured(f"{name} cannot be used: {error_text}") from None
