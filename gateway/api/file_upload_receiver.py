"""Receives files of forms. Small files stay in memory; larger ones are written to a temporary file on the disk."""

import hashlib
import tempfile
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from typing import BinaryIO, Protocol

from gateway.assets.backend import ImageData, StorageError
from gateway.large_body_thread import BodyThread

MAX_FILE_BYTES_IN_MEMORY = 1 << 20
# Hashing and writing a piece of this size takes about half a millisecond.
PIECE_BYTES = 256 << 10
MAX_INLINE_BYTES = 32 << 10

# Not the thread that parses bodies: a slow disk delays only other uploads.
_run_off_loop = BodyThread("upload-writer", MAX_INLINE_BYTES).run


class UploadedFile(str):
    """A file of a form. It is a `str`, so that the parameters can hold it in place of an image URL."""

    __slots__ = ("data", "digest")
    data: ImageData
    digest: str

    @classmethod
    def from_data(cls, data: ImageData, digest: str) -> "UploadedFile":
        file = cls("uploaded file")
        file.data, file.digest = data, digest
        return file


class UploadLimiter(Protocol):
    """Limits what all uploads hold in memory and on the disk."""

    async def move_to_disk(self, size: int) -> None:
        """Waits until the disk has room for `size` bytes of the body, and releases their memory."""


class FileReceiver:
    """Receives one file. The caller must close it."""

    def __init__(self, limiter: UploadLimiter) -> None:
        self._limiter = limiter
        self._pieces: list[bytes] = []
        self._held_bytes = self.size = 0
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()

    async def write(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._held_bytes += len(piece)
        self.size += len(piece)
        if self._held_bytes > (MAX_FILE_BYTES_IN_MEMORY if self._file is None else PIECE_BYTES):
            await self._move_to_disk()

    async def finish(self) -> UploadedFile:
        """Returns the complete file: its bytes, or a memory map of the temporary file."""
        if self._file is not None:
            await self._move_to_disk()
            return UploadedFile.from_data(mmap(self._file.fileno(), 0, access=ACCESS_READ), self._digest.hexdigest())
        return await _run_off_loop(self.size, self._join_pieces)

    def close(self) -> None:
        """Closes the temporary file. It has no name, so the system deletes it when its last memory map is closed."""
        if self._file is not None:
            # Closing repeats a failed write, which may fail again.
            with suppress(OSError):
                self._file.close()

    async def _move_to_disk(self) -> None:
        await self._limiter.move_to_disk(self._held_bytes)
        await _run_off_loop(self._held_bytes, self._write_pieces)

    def _write_pieces(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed by the caller
            for piece in self._pieces:
                self._digest.update(piece)
                self._file.write(piece)
            self._file.flush()
        except OSError as error:
            folder = tempfile.tempdir or "the temporary folder"
            message = f"{folder} cannot store an uploaded file: {error.strerror}. Set TMPDIR to another folder"
            raise StorageError(message) from error
        self._pieces, self._held_bytes = [], 0

    def _join_pieces(self) -> UploadedFile:
        data = b"".join(self._pieces)
        self._digest.update(data)
        return UploadedFile.from_data(data, self._digest.hexdigest())
