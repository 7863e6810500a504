"""The object store: where the pictures of jobs lie, by keys that only we make."""

import secrets
from math import inf
from pathlib import Path
from time import monotonic
from urllib.parse import unquote, urlsplit

from gateway.assets.base import (
    ForeignObject,
    Missing,
    Place,
    ShelfError,
    ShelfFull,
    ShelfRefused,
    ShelfUnavailable,
    ShelfUnfit,
    Stream,
)
from gateway.assets.bucket import SCHEMES, Bucket
from gateway.assets.folder import Folder
from gateway.assets.keys import key_of, prefix_of, require_key, require_prefix

__all__ = [
    "ForeignObject",
    "Missing",
    "Shelf",
    "ShelfError",
    "ShelfFull",
    "ShelfRefused",
    "ShelfUnavailable",
    "ShelfUnfit",
    "Stream",
]

# Each check of a bucket is three requests that are paid for.
CHECK_SECONDS = 30.0
# A failure other than a full disk stops new jobs only if it lasts so long: a single timeout passes.
LASTING_SECONDS = 2.0


class Shelf:
    """`file:///path` or a plain path, `s3://bucket/prefix`, `gs://…`, `az://…`; `memory://` forgets with its process.

    Every call may raise ShelfUnavailable, and NotAKey for a name that `key_of` did not make.
    `problem`: why no other picture can be kept; None if all is well, and while a failure may still pass.
    """

    def __init__(self, url: str) -> None:
        self._place = _place(url)
        self.problem: ShelfUnavailable | None = None
        self._checked_at = -inf
        # Since when checks fail, None while they pass. Storage that never worked has failed all along.
        self._failing_since: float | None = -inf

    @property
    def local(self) -> bool:
        """Whether other machines do not see what lies here, unless somebody has seen to it that they do."""
        return self._place.local

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        """Whole and durable when this returns; until then readers find what was there before, or nothing."""
        try:
            await self._place.put(require_key(key), data, media_type)
        except ShelfFull as full:
            self.problem = full
            raise

    async def get(self, key: str) -> bytes:
        return await self._place.get(require_key(key))

    async def stream(self, key: str) -> Stream:
        """Missing is raised here, not while reading. The caller must close the stream."""
        return await self._place.stream(require_key(key))

    async def exists(self, key: str) -> bool:
        return await self._place.exists(require_key(key))

    async def delete_prefix(self, prefix: str) -> int:
        """Forgets one job; how many pictures that were. Safe to repeat."""
        return await self._place.delete_prefix(require_prefix(prefix))

    async def check(self) -> None:
        """Puts, reads and deletes a few bytes, and sees that there is room: says why nothing could be kept before
        anything is bought."""
        self._checked_at = monotonic()
        try:
            await self._try_out()
        except ShelfUnavailable as error:
            self._note_failure(error)
            raise
        self.problem, self._failing_since = None, None

    def _note_failure(self, error: ShelfUnavailable) -> None:
        now = monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if isinstance(error, ShelfFull) or self.problem or now - self._failing_since >= LASTING_SECONDS:
            self.problem = error

    async def check_again(self) -> None:
        """Checks at once while checks fail or there is a problem, else from time to time."""
        if (
            self.problem is not None
            or self._failing_since is not None
            or monotonic() - self._checked_at > CHECK_SECONDS
        ):
            await self.check()

    async def _try_out(self) -> None:
        nobodys = f"job_00{secrets.token_hex(13)}"
        key = key_of(nobodys, "check")
        await self._place.put(key, b"check", "text/plain")
        if await self._place.get(key) != b"check":
            raise ShelfUnavailable("the object store does not return what was put there")
        await self._place.delete_prefix(prefix_of(nobodys))
        await self._place.check_room()

    async def close(self) -> None:
        await self._place.close()


def public_words(problem: ShelfUnavailable) -> str:
    """Describes the problem for clients, without the place of the images."""
    match problem:
        case ShelfFull():
            return "there is no room for another image"
        case ShelfRefused():
            return "this process may not store images there"
    return "images cannot be stored or read at the moment"


def _place(url: str) -> Place:
    parts = urlsplit(url)
    if "://" not in url:
        return Folder(Path(url))
    if parts.scheme == "file":
        return Folder(_path(url))
    if parts.scheme not in SCHEMES:
        raise ShelfUnfit(f"{parts.scheme[:20]}:// is no object store; known: file, {', '.join(sorted(SCHEMES))}")
    return Bucket(url)


def _path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise ShelfUnfit("a file address has three slashes and a path from the root: file:///path/to/folder")
    return Path(unquote(parts.path))
