"""Image storage: one backend behind validated keys, with a self-test."""

import secrets
from math import inf
from pathlib import Path
from time import monotonic
from urllib.parse import unquote, urlsplit

from gateway.assets.backend import (
    ForeignObject,
    ImageData,
    ObjectNotFound,
    ObjectStream,
    StorageAccessDenied,
    StorageBackend,
    StorageError,
    StorageFull,
    StorageMisconfigured,
    StorageUnavailable,
)
from gateway.assets.bucket_backend import SCHEMES, BucketBackend
from gateway.assets.folder_backend import FolderBackend
from gateway.assets.object_keys import make_object_key, make_object_prefix, validate_key, validate_object_prefix
from gateway.timeouts_and_intervals import MaintenanceTiming

__all__ = [
    "ForeignObject",
    "ImageStorage",
    "ObjectNotFound",
    "ObjectStream",
    "StorageAccessDenied",
    "StorageError",
    "StorageFull",
    "StorageMisconfigured",
    "StorageUnavailable",
]


class ImageStorage:
    """Stores the images of jobs.

    `location`: `file:///path` or a plain path, `s3://bucket/prefix`, `gs://…`, `az://…`, or `memory://`, which lasts as
    long as its process; or a backend. Every call may raise StorageUnavailable, and InvalidKey for a key that
    `make_object_key` did not make. `problem`: why no more images can be stored; None if they can, or if a failure may
    still be transient.
    """

    def __init__(self, location: str | StorageBackend, timing: MaintenanceTiming = MaintenanceTiming()) -> None:
        self._timing = timing
        self._backend = _make_backend(location) if isinstance(location, str) else location
        self.problem: StorageUnavailable | None = None
        self._tested_at = -inf
        # The time at which self-tests began to fail; None while they pass. Initially infinitely long ago, for
        # a storage that never worked.
        self._failing_since: float | None = -inf

    @property
    def stream_buffer_bytes(self) -> int:
        """The memory of a stream that is being read, beside its current chunk."""
        return self._backend.stream_buffer_bytes

    async def put(self, key: str, data: ImageData, media_type: str) -> None:
        """Stores an image durably. Until this returns, readers find the previous image, or none."""
        try:
            await self._backend.put(validate_key(key), data, media_type)
        except StorageFull as full:
            self.problem = full
            raise

    async def get(self, key: str) -> bytes:
        return await self._backend.get(validate_key(key))

    async def open_stream(self, key: str) -> ObjectStream:
        """Opens a stream, which the caller must close. ObjectNotFound is raised here, not while reading."""
        return await self._backend.open_stream(validate_key(key))

    async def delete_prefix(self, prefix: str) -> int:
        """Deletes all images of one job and returns their number. It may be repeated."""
        return await self._backend.delete_prefix(validate_object_prefix(prefix))

    async def self_test(self) -> None:
        """Writes, reads and deletes a test object, and checks the free space.

        So a broken storage is found before anything is bought.
        """
        self._tested_at = monotonic()
        try:
            await self._write_and_read_back()
        except StorageUnavailable as error:
            self._record_failure(error)
            raise
        self.problem, self._failing_since = None, None

    def _record_failure(self, error: StorageUnavailable) -> None:
        now = monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if (
            isinstance(error, StorageFull)
            or self.problem
            or now - self._failing_since >= self._timing.max_transient_failure_seconds
        ):
            self.problem = error

    async def self_test_if_due(self) -> None:
        """Runs the self-test if there is a problem or the last one failed. Otherwise runs it
        periodically."""
        if (
            self.problem is not None
            or self._failing_since is not None
            or monotonic() - self._tested_at > self._timing.storage_test_interval_seconds
        ):
            await self.self_test()

    async def _write_and_read_back(self) -> None:
        test_job_id = f"job_00{secrets.token_hex(13)}"
        key = make_object_key(test_job_id, "check")
        await self._backend.put(key, b"check", "text/plain")
        if await self._backend.get(key) != b"check":
            raise StorageUnavailable("the storage does not return the bytes that were stored")
        await self._backend.delete_prefix(make_object_prefix(test_job_id))
        await self._backend.check_free_space()

    async def close(self) -> None:
        await self._backend.close()


def describe_problem(problem: StorageUnavailable) -> str:
    """Describes the problem for clients, without naming the storage."""
    match problem:
        case StorageFull():
            return "there is no room for another image"
        case StorageAccessDenied():
            return "this gateway is not allowed to store images"
    return "images cannot be stored or read at the moment"


def _make_backend(url: str) -> StorageBackend:
    parts = urlsplit(url)
    if "://" not in url:
        return FolderBackend(Path(url))
    if parts.scheme == "file":
        return FolderBackend(_parse_file_url(url))
    if parts.scheme not in SCHEMES:
        raise StorageMisconfigured(
            f"{parts.scheme[:20]}:// is not a supported storage; supported: file, {', '.join(sorted(SCHEMES))}"
        )
    return BucketBackend(url)


def _parse_file_url(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise StorageMisconfigured("a file URL must have three slashes and an absolute path: file:///path/to/folder")
    return Path(unquote(parts.path))
