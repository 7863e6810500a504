"""Stores images in a local folder. Writes are durable and atomic, and nothing outside of the folder is accessed.

The images of one partition and hour share a folder: `48/i3x7/<job>.<name>`.
"""

import asyncio
import contextlib
import errno
import os
import secrets
import stat
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from gateway.assets.backend import (
    CHUNK_BYTES,
    ForeignObject,
    ImageData,
    ObjectNotFound,
    StorageAccessDenied,
    StorageError,
    StorageFull,
    StorageMisconfigured,
    StorageUnavailable,
)
from gateway.assets.batched_file_writer import CREATE_FLAGS, TEMPORARY_PREFIX, BatchedFileWriter
from gateway.store.partitions import encode_hour, get_job_hour

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

# More threads would gain little on one disk. A disk that hangs delays no other work of the process.
MAX_THREADS = 4
MAX_DURABLE_FOLDERS = 1_000
# Empty folders of the last KEPT_HOURS are not removed. A process relies only on folders of the last TRUSTED_HOURS: the
# clock of a replica that removes folders may be ahead.
KEPT_HOURS, TRUSTED_HOURS = 4, 2
# The size of a large image. With less free space than this, images that were paid for might not fit.
MIN_FREE_BYTES = 8 * 1024 * 1024
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SUBFOLDER_FLAGS = _FOLDER_FLAGS | os.O_NOFOLLOW
# Opening must not block, even if a pipe has the name of an image.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_DISK_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PERMISSION_ERRORS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_UNEXPECTED_FILE_ERRORS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EMLINK})
# The errors that opening a link or a socket raises.
_NOT_A_FILE_ERRORS = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO})


class FolderBackend:
    """A folder on this machine. It does not use obstore, which follows links and does not sync files to the disk."""

    stream_buffer_bytes = 0

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = path.resolve(strict=True)
            os.close(os.open(self._root, _FOLDER_FLAGS))
        except OSError as error:
            error_class = StorageFull if error.errno in _DISK_FULL_ERRORS else StorageMisconfigured
            raise error_class(f"{path} cannot be used to store images: {error.strerror}") from error
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="storage")
        self._writer = BatchedFileWriter(self._threads, partial(self._open_folder, create=True), self._translate_error)
        # Folders whose own names were made durable.
        self._durable_folders: set[tuple[str, ...]] = set()

    async def put(self, key: str, data: ImageData, media_type: str) -> None:
        folder, name = locate_file(key)
        await self._writer.write(folder, name, data)

    async def get(self, key: str) -> bytes:
        return await self._run_in_thread(self._read_object, key)

    async def open_stream(self, key: str) -> "FileStream":
        opening = self._submit_call(self._open_object, key)
        try:
            file = await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            # The file may be open already, or the folder thread may be opening it right now.
            opening.add_done_callback(_close_opened_file)
            raise
        return FileStream(file, self._read_chunk)

    async def check_free_space(self) -> None:
        await self._run_in_thread(self._reserve_free_space)

    async def delete_prefix(self, prefix: str) -> int:
        return await self._run_in_thread(self._delete_job_files, prefix)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    async def _run_in_thread(self, function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
        return await asyncio.wrap_future(self._submit_call(function, *args, **kwargs))

    def _submit_call(self, function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> Future[ResultT]:
        def call_translated() -> ResultT:
            try:
                return function(*args, **kwargs)
            except OSError as error:
                raise self._translate_error(error) from error

        return self._threads.submit(call_translated)

    def _translate_error(self, error: OSError) -> StorageError:
        if error.errno in _DISK_FULL_ERRORS:
            return StorageFull(f"no space left in {self._root}: {error.strerror}")
        if error.errno in _PERMISSION_ERRORS:
            return StorageAccessDenied(f"{self._root} may not be used by this process: {error.strerror}")
        if error.errno in _UNEXPECTED_FILE_ERRORS:
            return StorageAccessDenied(f"{self._root} contains a link or another file that the gateway did not store")
        return StorageUnavailable(f"{self._root} failed: {error.strerror}")

    def _reserve_free_space(self) -> None:
        """Allocates the space without writing to it, and frees it again. So quotas and limits of the file size are
        checked, too."""
        with self._open_folder(()) as folder:
            name = f"{TEMPORARY_PREFIX}room.{secrets.token_hex(8)}"
            descriptor = os.open(name, CREATE_FLAGS, 0o600, dir_fd=folder)
            try:
                os.unlink(name, dir_fd=folder)
                os.posix_fallocate(descriptor, 0, MIN_FREE_BYTES)
            finally:
                os.close(descriptor)

    def _read_object(self, key: str) -> bytes:
        with contextlib.closing(self._open_object(key)) as file:
            parts: list[bytes] = []
            position = 0
            while part := file.read(position, max_bytes=file.size - position):
                parts.append(part)
                position += len(part)
        # There is nearly always a single part, which `join` does not copy.
        return b"".join(parts)

    def _open_object(self, key: str) -> "_OpenFile":
        parents, name = locate_file(key)
        try:
            with self._open_folder(parents) as folder:
                file = _open_file(name, folder)
        except FileNotFoundError:
            raise ObjectNotFound("no image is stored under this key") from None
        if file is None:
            path = "/".join((*parents, name))
            raise ForeignObject(
                f"{self._root} contains a link or another file at {path} that the gateway did not store"
            )
        return file

    async def _read_chunk(self, file: "_OpenFile", position: int) -> bytes:
        return await self._run_in_thread(file.read, position)

    def _delete_job_files(self, prefix: str) -> int:
        (partition, hour), name_prefix = locate_file(prefix)
        try:
            with self._open_folder((partition, hour)) as folder:
                names = [
                    name
                    for name in os.listdir(folder)
                    if name.startswith((name_prefix, TEMPORARY_PREFIX + name_prefix)) and not _is_folder(name, folder)
                ]
                for name in names:
                    # Another replica may be deleting the same job.
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
            if hour not in _list_recent_hours(KEPT_HOURS):
                with self._open_folder((partition,)) as parent:
                    _remove_folder(hour, parent)
        except FileNotFoundError:
            return 0
        return sum(not name.startswith(TEMPORARY_PREFIX) for name in names)

    @contextlib.contextmanager
    def _open_folder(self, parts: Sequence[str], create: bool = False) -> Iterator[int]:
        """Opens the path folder by folder, so that no link leads outside, even if the link is created meanwhile."""
        try:
            current = os.open(self._root, _FOLDER_FLAGS)
        except FileNotFoundError:
            # A missing disk must not look like a missing image.
            raise StorageUnavailable(f"{self._root} does not exist. Check that its disk is mounted.") from None
        try:
            for depth, part in enumerate(parts, 1):
                if create:
                    self._make_folder(tuple(parts[:depth]), current)
                parent, current = current, self._open_subfolder(part, current)
                os.close(parent)
            yield current
        finally:
            os.close(current)

    def _open_subfolder(self, name: str, parent: int) -> int:
        try:
            return os.open(name, _SUBFOLDER_FLAGS, dir_fd=parent)
        except FileNotFoundError:
            # Another program may have removed folders that were durable.
            self._durable_folders.clear()
            raise

    def _make_folder(self, path: tuple[str, ...], parent: int) -> None:
        """Makes the folder durably. An existing one may have been made just now, by a writer that has not synced it."""
        is_kept = len(path) == 1 or path[1] in _list_recent_hours(TRUSTED_HOURS)
        if is_kept and path in self._durable_folders:
            return
        with contextlib.suppress(FileExistsError):
            os.mkdir(path[-1], 0o700, dir_fd=parent)
        os.fsync(parent)
        if is_kept:
            if len(self._durable_folders) >= MAX_DURABLE_FOLDERS:
                self._durable_folders.clear()
            self._durable_folders.add(path)


class FileStream:
    """Reads from an open file, even if it is renamed or deleted meanwhile."""

    def __init__(self, file: "_OpenFile", read_chunk: Callable[["_OpenFile", int], Awaitable[bytes]]) -> None:
        self.size = file.size
        self._file = file
        self._read_chunk = read_chunk

    def close(self) -> None:
        self._file.close()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.read_range(0, self.size)

    async def read_range(self, start: int, end: int) -> AsyncIterator[bytes]:
        position = start
        while position < end and (chunk := await self._read_chunk(self._file, position)):
            yield chunk[: end - position]
            position += len(chunk)


class _OpenFile:
    """An open file. `close` does not wait: if the file is being read, the last reader closes the descriptor.

    Otherwise a reader could read a different file that received the same descriptor meanwhile.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._reader_count = 0
        self._is_closed = False
        status = os.fstat(descriptor)
        self.size, self.mode = status.st_size, status.st_mode

    def read(self, position: int, max_bytes: int = CHUNK_BYTES) -> bytes:
        with self._lock:
            if self._is_closed:
                raise StorageUnavailable("this image stream is closed")
            self._reader_count += 1
        try:
            return os.pread(self._descriptor, max_bytes, position)
        finally:
            with self._lock:
                self._reader_count -= 1
                is_last = self._is_closed and not self._reader_count
            if is_last:
                os.close(self._descriptor)

    def close(self) -> None:
        with self._lock:
            is_last = not self._is_closed and not self._reader_count
            self._is_closed = True
        if is_last:
            os.close(self._descriptor)


def _open_file(name: str, folder: int) -> _OpenFile | None:
    """Opens a file for reading. Returns None if the name belongs to something other than a file."""
    try:
        file = _OpenFile(os.open(name, _READ_FLAGS, dir_fd=folder))
    except OSError as error:
        if error.errno in _NOT_A_FILE_ERRORS:
            return None
        raise
    if not stat.S_ISREG(file.mode):
        file.close()
        return None
    return file


def _close_opened_file(opening: "Future[_OpenFile]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def locate_file(key: str) -> tuple[tuple[str, str], str]:
    """Returns the folder of a key, or of a job's prefix, and the name of the file in it, or its beginning."""
    partition, job, name = key.split("/")
    return (partition, get_job_hour(job)), f"{job}.{name}"


def _list_recent_hours(count: int) -> list[str]:
    """Lists the current hour and those before it."""
    now = time.time()
    return [encode_hour(now - 3_600.0 * hours) for hours in range(count)]


def _is_folder(name: str, parent: int) -> bool:
    """Returns whether the name is a folder. The gateway neither creates nor deletes folders beside images."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _remove_folder(name: str, parent: int) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        # A file was stored there meanwhile, or another replica has removed the folder.
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
            raise
