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

from gateway.assets.base import (
    CHUNK_BYTES,
    ForeignObject,
    Missing,
    ShelfError,
    ShelfFull,
    ShelfRefused,
    ShelfUnavailable,
    ShelfUnfit,
)

P = ParamSpec("P")
T = TypeVar("T")

# One disk gains little from more, and a disk that hangs holds up no other work of the process.
THREADS = 4
# A large picture: with less room than that, what is bought might not be kept.
ROOM_BYTES = 8 * 1024 * 1024
# Keys begin with a letter or digit, so that no key ever names a file that is still being written.
_UNFINISHED = "."

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_STEP = _FOLDER | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening must not wait either, should somebody have laid a pipe where a picture belongs.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NOT_OURS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EMLINK})
# Where a file is opened: a link, or the socket of a program.
_NOT_A_FILE = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO})


class Folder:
    """The object store's own library follows links and leaves it to the system when a file reaches the disk."""

    local = True

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = path.resolve(strict=True)
            os.close(os.open(self._root, _FOLDER))
        except OSError as error:
            kind = ShelfFull if error.errno in _NO_ROOM else ShelfUnfit
            raise kind(f"{path} cannot be a folder for pictures: {error.strerror}") from error
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pictures")

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        await self._run(self._put, key, data)

    async def get(self, key: str) -> bytes:
        return await self._run(self._get, key)

    async def stream(self, key: str) -> "FolderStream":
        opening = self._submit(self._open, key)
        try:
            file = await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            # It may have been opened in the same moment, or be just now.
            opening.add_done_callback(_close_opened)
            raise
        return FolderStream(file, self._read)

    async def exists(self, key: str) -> bool:
        try:
            await self._run(self._look_for, key)
        except Missing:
            return False
        return True

    async def check_room(self) -> None:
        await self._run(self._check_room)

    async def delete_prefix(self, prefix: str) -> int:
        return await self._run(self._delete_prefix, prefix)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._submit(function, *args, **kwargs))

    def _submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        def guarded() -> T:
            try:
                return function(*args, **kwargs)
            except OSError as error:
                raise self._explained(error) from error

        return self._threads.submit(guarded)

    def _explained(self, error: OSError) -> ShelfError:
        if error.errno in _NO_ROOM:
            return ShelfFull(f"there is no room in {self._root}: {error.strerror}")
        if error.errno in _FORBIDDEN:
            return ShelfRefused(f"{self._root} may not be used by this process: {error.strerror}")
        if error.errno in _NOT_OURS:
            return ShelfRefused(f"{self._root} holds a link or something else where only our own files belong")
        return ShelfUnavailable(f"{self._root} is in trouble: {error.strerror}")

    def _put(self, key: str, data: bytes) -> None:
        *parents, name = key.split("/")
        with self._folder(parents, create=True) as folder:
            unfinished = f"{_UNFINISHED}{name}.{secrets.token_hex(8)}"
            try:
                _write(unfinished, data, folder)
                os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(unfinished, dir_fd=folder)
                raise
            # The name must be as durable as what it stands for.
            os.fsync(folder)

    def _check_room(self) -> None:
        """Takes the room without writing to it, and gives it back. Quotas and limits on files are seen, too."""
        with self._folder([]) as folder:
            name = f"{_UNFINISHED}room.{secrets.token_hex(8)}"
            file = os.open(name, _NEW, 0o600, dir_fd=folder)
            try:
                os.unlink(name, dir_fd=folder)
                os.posix_fallocate(file, 0, ROOM_BYTES)
            finally:
                os.close(file)

    def _get(self, key: str) -> bytes:
        with contextlib.closing(self._open(key)) as file:
            parts: list[bytes] = []
            position = 0
            while part := file.read(position, most=file.size - position):
                parts.append(part)
                position += len(part)
        # Nearly always a single part, which is not copied again.
        return b"".join(parts)

    def _look_for(self, key: str) -> None:
        self._open(key).close()

    def _open(self, key: str) -> "_File":
        *parents, name = key.split("/")
        try:
            with self._folder(parents) as folder:
                file = _open_file(name, folder)
        except FileNotFoundError:
            raise Missing("no such picture in the object store") from None
        if file is None:
            raise ForeignObject(f"{self._root} holds a link or something else at {key}, where only an image belongs")
        return file

    async def _read(self, file: "_File", position: int) -> bytes:
        return await self._run(file.read, position)

    def _delete_prefix(self, prefix: str) -> int:
        partition, job = prefix.rstrip("/").split("/")
        try:
            with self._folder([partition, job]) as folder:
                names = [name for name in os.listdir(folder) if not _is_folder(name, folder)]
                for name in names:
                    # Another replica may be deleting the same job.
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
            with self._folder([partition]) as above:
                _remove_folder(job, above)
        except FileNotFoundError:
            return 0
        return sum(not name.startswith(_UNFINISHED) for name in names)

    @contextlib.contextmanager
    def _folder(self, parts: list[str], create: bool = False) -> Iterator[int]:
        """Goes down step by step, so that a link cannot lead anywhere else, whenever it was laid."""
        try:
            here = os.open(self._root, _FOLDER)
        except FileNotFoundError:
            # Not to be taken for a picture that is not there.
            raise ShelfUnavailable(f"{self._root} is gone: is its disk still mounted?") from None
        try:
            for part in parts:
                if create:
                    _make_folder(part, here)
                above, here = here, os.open(part, _STEP, dir_fd=here)
                os.close(above)
            yield here
        finally:
            os.close(here)


class FolderStream:
    """Reads from a file that stays open, whatever becomes of its name."""

    def __init__(self, file: "_File", read: Callable[["_File", int], Awaitable[bytes]]) -> None:
        self.size = file.size
        self._file = file
        self._read = read

    def close(self) -> None:
        self._file.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        position = 0
        while chunk := await self._read(self._file, position):
            yield chunk
            position += len(chunk)


class _File:
    """An open file. Closing waits for nothing: if it is being read, the last reader closes it, so that none reads
    another file that has been given its number meanwhile."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._lock = threading.Lock()
        self._readers = 0
        self._is_closed = False
        found = os.fstat(number)
        self.size, self.mode = found.st_size, found.st_mode

    def read(self, position: int, most: int = CHUNK_BYTES) -> bytes:
        with self._lock:
            if self._is_closed:
                raise ShelfUnavailable("this picture is not open any more")
            self._readers += 1
        try:
            return os.pread(self._number, most, position)
        finally:
            with self._lock:
                self._readers -= 1
                is_last = self._is_closed and not self._readers
            if is_last:
                os.close(self._number)

    def close(self) -> None:
        with self._lock:
            is_last = not self._is_closed and not self._readers
            self._is_closed = True
        if is_last:
            os.close(self._number)


def _open_file(name: str, folder: int) -> _File | None:
    """Opens a file for reading. None if something else has its name."""
    try:
        file = _File(os.open(name, _READ, dir_fd=folder))
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            return None
        raise
    if not stat.S_ISREG(file.mode):
        file.close()
        return None
    return file


def _close_opened(opening: "Future[_File]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _write(name: str, data: bytes, folder: int) -> None:
    with open(os.open(name, _NEW, 0o600, dir_fd=folder), "wb", buffering=0) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _make_folder(name: str, above: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=above)
    except FileExistsError:
        return
    os.fsync(above)


def _is_folder(name: str, above: int) -> bool:
    """Folders in that of a job are not ours, and stay."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _remove_folder(name: str, above: int) -> None:
    try:
        os.rmdir(name, dir_fd=above)
    except OSError as error:
        # Something was put there meanwhile, or somebody else has removed it.
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
            raise
