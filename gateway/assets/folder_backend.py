"""A local folder of pictures: put is durable and all or nothing, and nothing outside of the folder is ever reached."""

import asyncio
import contextlib
import errno
import os
import secrets
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from gateway.assets.backend import (
    CHUNK_BYTES,
    ForeignObject,
    ObjectNotFound,
    StorageAccessDenied,
    StorageError,
    StorageFull,
    StorageMisconfigured,
    StorageUnavailable,
)

P = ParamSpec("P")
T = TypeVar("T")

# One disk gains little from more, and a disk that hangs holds up no other work of the process.
MAX_THREADS = 4
# A large picture: with less room than that, what is bought might not be kept.
MIN_FREE_BYTES = 8 * 1024 * 1024
# Keys begin with a letter or digit, so that no key ever names a file that is still being written.
_TEMPORARY_PREFIX = "."

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SUBFOLDER_FLAGS = _FOLDER_FLAGS | os.O_NOFOLLOW
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening must not wait either, should somebody have laid a pipe where a picture belongs.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_DISK_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PERMISSION_ERRORS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_UNEXPECTED_FILE_ERRORS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EMLINK})
# Where a file is opened: a link, or the socket of a program.
_NOT_A_FILE_ERRORS = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO})


class FolderBackend:
    """The object store's own library follows links and leaves it to the system when a file reaches the disk."""

    is_local = True

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = path.resolve(strict=True)
            os.close(os.open(self._root, _FOLDER_FLAGS))
        except OSError as error:
            error_class = StorageFull if error.errno in _DISK_FULL_ERRORS else StorageMisconfigured
            raise error_class(f"{path} cannot be a folder for pictures: {error.strerror}") from error
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="storage")

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        await self._run_in_thread(self._write_object, key, data)

    async def get(self, key: str) -> bytes:
        return await self._run_in_thread(self._read_object, key)

    async def open_stream(self, key: str) -> "FileStream":
        opening = self._submit_call(self._open_object, key)
        try:
            file = await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            # It may have been opened in the same moment, or be just now.
            opening.add_done_callback(_close_opened_file)
            raise
        return FileStream(file, self._read_chunk)

    async def exists(self, key: str) -> bool:
        try:
            await self._run_in_thread(self._require_object, key)
        except ObjectNotFound:
            return False
        return True

    async def check_free_space(self) -> None:
        await self._run_in_thread(self._reserve_free_space)

    async def delete_prefix(self, prefix: str) -> int:
        return await self._run_in_thread(self._delete_job_folder, prefix)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    async def _run_in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._submit_call(function, *args, **kwargs))

    def _submit_call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        def call_translated() -> T:
            try:
                return function(*args, **kwargs)
            except OSError as error:
                raise self._translate_error(error) from error

        return self._threads.submit(call_translated)

    def _translate_error(self, error: OSError) -> StorageError:
        if error.errno in _DISK_FULL_ERRORS:
            return StorageFull(f"there is no room in {self._root}: {error.strerror}")
        if error.errno in _PERMISSION_ERRORS:
            return StorageAccessDenied(f"{self._root} may not be used by this process: {error.strerror}")
        if error.errno in _UNEXPECTED_FILE_ERRORS:
            return StorageAccessDenied(f"{self._root} holds a link or something else where only our own files belong")
        return StorageUnavailable(f"{self._root} is in trouble: {error.strerror}")

    def _write_object(self, key: str, data: bytes) -> None:
        *parents, name = key.split("/")
        with self._open_folder(parents, create=True) as folder:
            temporary_name = f"{_TEMPORARY_PREFIX}{name}.{secrets.token_hex(8)}"
            try:
                _write_file(temporary_name, data, folder)
                os.rename(temporary_name, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary_name, dir_fd=folder)
                raise
            # The name must be as durable as what it stands for.
            os.fsync(folder)

    def _reserve_free_space(self) -> None:
        """Takes the room without writing to it, and gives it back. Quotas and limits on files are seen, too."""
        with self._open_folder([]) as folder:
            name = f"{_TEMPORARY_PREFIX}room.{secrets.token_hex(8)}"
            descriptor = os.open(name, _CREATE_FLAGS, 0o600, dir_fd=folder)
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
        # Nearly always a single part, which is not copied again.
        return b"".join(parts)

    def _require_object(self, key: str) -> None:
        self._open_object(key).close()

    def _open_object(self, key: str) -> "_OpenFile":
        *parents, name = key.split("/")
        try:
            with self._open_folder(parents) as folder:
                file = _open_file(name, folder)
        except FileNotFoundError:
            raise ObjectNotFound("no such picture in the object store") from None
        if file is None:
            raise ForeignObject(f"{self._root} holds a link or something else at {key}, where only an image belongs")
        return file

    async def _read_chunk(self, file: "_OpenFile", position: int) -> bytes:
        return await self._run_in_thread(file.read, position)

    def _delete_job_folder(self, prefix: str) -> int:
        partition, job = prefix.rstrip("/").split("/")
        try:
            with self._open_folder([partition, job]) as folder:
                names = [name for name in os.listdir(folder) if not _is_folder(name, folder)]
                for name in names:
                    # Another replica may be deleting the same job.
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
            with self._open_folder([partition]) as parent:
                _remove_folder(job, parent)
        except FileNotFoundError:
            return 0
        return sum(not name.startswith(_TEMPORARY_PREFIX) for name in names)

    @contextlib.contextmanager
    def _open_folder(self, parts: list[str], create: bool = False) -> Iterator[int]:
        """Goes down step by step, so that a link cannot lead anywhere else, whenever it was laid."""
        try:
            current = os.open(self._root, _FOLDER_FLAGS)
        except FileNotFoundError:
            # Not to be taken for a picture that is not there.
            raise StorageUnavailable(f"{self._root} is gone: is its disk still mounted?") from None
        try:
            for part in parts:
                if create:
                    _make_folder(part, current)
                parent, current = current, os.open(part, _SUBFOLDER_FLAGS, dir_fd=current)
                os.close(parent)
            yield current
        finally:
            os.close(current)


class FileStream:
    """Reads from a file that stays open, whatever becomes of its name."""

    def __init__(self, file: "_OpenFile", read_chunk: Callable[["_OpenFile", int], Awaitable[bytes]]) -> None:
        self.size = file.size
        self._file = file
        self._read_chunk = read_chunk

    def close(self) -> None:
        self._file.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        position = 0
        while chunk := await self._read_chunk(self._file, position):
            yield chunk
            position += len(chunk)


class _OpenFile:
    """An open file. Closing waits for nothing: if it is being read, the last reader closes it, so that none reads
    another file that has been given its number meanwhile."""

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
                raise StorageUnavailable("this picture is not open any more")
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
    """Opens a file for reading. None if something else has its name."""
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


def _write_file(name: str, data: bytes, folder: int) -> None:
    with open(os.open(name, _CREATE_FLAGS, 0o600, dir_fd=folder), "wb", buffering=0) as file:
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[file.write(remaining) :]
        os.fsync(file.fileno())


def _make_folder(name: str, parent: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return
    os.fsync(parent)


def _is_folder(name: str, parent: int) -> bool:
    """Folders in that of a job are not ours, and stay."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _remove_folder(name: str, parent: int) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        # Something was put there meanwhile, or somebody else has removed it.
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
            raise
