"""Writes files durably in groups: files that wait at the same time are synced together, and their folder once.

A sync costs 0.1 to 0.2 ms of CPU time, and several of the disk's.
"""

import asyncio
import contextlib
import os
import secrets
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager

from msgspec import Struct

from gateway.assets.backend import ImageData

# While one group waits for the disk, the next one is written.
MAX_THREADS, MAX_GROUP_SIZE = 2, 32
# Keys begin with a letter or digit, so no key can name a file that is still being written.
TEMPORARY_PREFIX = "."
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FolderPath = tuple[str, ...]


class _PendingWrite(Struct, eq=False):
    """A file to write into a folder. The thread that writes it sets `error` if it fails."""

    folder: FolderPath
    name: str
    data: ImageData
    future: "asyncio.Future[None]"
    error: Exception | None = None
    descriptor: int = -1
    temporary_name: str = ""


class BatchedFileWriter:
    """Writes files into folders. `open_folder` opens a folder, and creates it durably if it does not exist."""

    def __init__(
        self,
        threads: Executor,
        open_folder: Callable[[FolderPath], AbstractContextManager[int]],
        translate_error: Callable[[OSError], Exception],
    ) -> None:
        self._threads = threads
        self._open_folder = open_folder
        self._translate_error = translate_error
        self._pending_writes: deque[_PendingWrite] = deque()
        self._thread_count = 0
        self._lock = threading.Lock()

    async def write(self, folder: FolderPath, name: str, data: ImageData) -> None:
        """Returns when the file and its name are durable. The file is written even if this call is cancelled."""
        write = _PendingWrite(folder, name, data, asyncio.get_running_loop().create_future())
        with self._lock:
            self._pending_writes.append(write)
            needs_thread = self._thread_count < MAX_THREADS
            self._thread_count += needs_thread
        if needs_thread:
            self._threads.submit(self._run_thread)
        await write.future

    def _run_thread(self) -> None:
        """Runs in a thread until no writes are waiting."""
        while writes := self._take_writes():
            by_folder = defaultdict(list)
            for write in writes:
                by_folder[write.folder].append(write)
            for folder, folder_writes in by_folder.items():
                self._write_group(folder, folder_writes)
            writes[0].future.get_loop().call_soon_threadsafe(_resolve_writes, writes)

    def _take_writes(self) -> list[_PendingWrite]:
        with self._lock:
            count = min(len(self._pending_writes), MAX_GROUP_SIZE)
            self._thread_count -= not count
            return [self._pending_writes.popleft() for _ in range(count)]

    def _write_group(self, folder: FolderPath, writes: Sequence[_PendingWrite]) -> None:
        """Writes all files, then syncs them: the disk does most of the work for all of them together."""
        try:
            with self._open_folder(folder) as descriptor:
                for write in writes:
                    _try_step(write, _create_file, descriptor)
                for write in writes:
                    _try_step(write, _publish_file, descriptor)
                # The names must be as durable as the contents.
                os.fsync(descriptor)
        except Exception as error:  # noqa: BLE001  every write must end
            for write in writes:
                write.error = write.error or error
        for write in writes:
            if isinstance(write.error, OSError):
                write.error = self._translate_error(write.error)


def _try_step(write: _PendingWrite, step: Callable[[_PendingWrite, int], None], folder: int) -> None:
    """Runs one step of a write, unless an earlier one failed. If it fails, deletes the unfinished file."""
    if write.error is not None:
        return
    try:
        step(write, folder)
    except Exception as error:  # noqa: BLE001  one file must not cost the others of its group
        write.error = error
        with contextlib.suppress(OSError):
            os.unlink(write.temporary_name, dir_fd=folder)


def _create_file(write: _PendingWrite, folder: int) -> None:
    write.temporary_name = f"{TEMPORARY_PREFIX}{write.name}.{secrets.token_hex(8)}"
    write.descriptor = os.open(write.temporary_name, CREATE_FLAGS, 0o600, dir_fd=folder)
    try:
        remaining = memoryview(write.data)
        while remaining:
            remaining = remaining[os.write(write.descriptor, remaining) :]
    except BaseException:
        os.close(write.descriptor)
        raise


def _publish_file(write: _PendingWrite, folder: int) -> None:
    """Syncs the file and gives it its name."""
    try:
        os.fsync(write.descriptor)
    finally:
        os.close(write.descriptor)
    os.rename(write.temporary_name, write.name, src_dir_fd=folder, dst_dir_fd=folder)


def _resolve_writes(writes: Sequence[_PendingWrite]) -> None:
    for write in writes:
        # A write continues even if its caller is cancelled.
        if write.future.done():
            continue
        if write.error is not None:
            write.future.set_exception(write.error)
        else:
            write.future.set_result(None)
