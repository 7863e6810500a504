"""A local folder as storage: permissions, links and special files, durability, failing disks."""

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import threading
from pathlib import Path

import pytest

from gateway.assets import batched_file_writer, folder_backend
from gateway.assets.backend import CHUNK_BYTES
from gateway.assets.object_keys import make_object_key, make_object_prefix
from gateway.assets.storage import ForeignObject, ImageStorage, StorageError, StorageUnavailable
from gateway.store.partitions import new_job_id
from tests.assets.storage_scenarios import (
    FILE_PATH,
    JOB,
    KEY,
    has_image,
    list_files,
    put_image,
    run_scenario,
)


def test_files_are_readable_only_by_owner(tmp_path: Path) -> None:
    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage)

    before = os.umask(0)
    try:
        run_scenario(scenario, tmp_path / "deep" / "images")
    finally:
        os.umask(before)
    for path in (tmp_path / "deep" / "images").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (tmp_path / "deep" / "images").stat().st_mode & 0o777 == 0o700


def test_large_image_is_streamed_in_chunks(tmp_path: Path) -> None:
    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage, bytes(CHUNK_BYTES * 2 + 1))
        assert [len(chunk) async for chunk in await storage.open_stream(KEY)] == [CHUNK_BYTES, CHUNK_BYTES, 1]

    run_scenario(scenario, tmp_path)


def test_open_stream_survives_overwrite_and_delete(tmp_path: Path) -> None:
    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage, b"a" * 600_000)
        overwritten, deleted = await storage.open_stream(KEY), await storage.open_stream(KEY)
        await put_image(storage, b"b" * 10)
        assert b"".join([chunk async for chunk in overwritten]) == b"a" * 600_000
        await storage.delete_prefix(make_object_prefix(JOB))
        assert b"".join([chunk async for chunk in deleted]) == b"a" * 600_000

    run_scenario(scenario, tmp_path)


def count_open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_closed_streams_leave_no_file_open(tmp_path: Path) -> None:
    """A file is closed by `close`, not by garbage collection."""

    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage, bytes(600_000))
        before = count_open_files()
        references = []
        for _ in range(20):
            unread, started, read = [await storage.open_stream(KEY) for _ in range(3)]
            chunks = aiter(started)
            await anext(chunks)
            assert sum([len(chunk) async for chunk in read]) == 600_000
            assert count_open_files() == before + 3
            for stream in (unread, started, read):
                stream.close()
                stream.close()
            assert await has_image(storage, KEY)
            assert len(await storage.get(KEY)) == 600_000
            assert count_open_files() == before
            references += [unread, started, read, chunks]
        with pytest.raises(StorageUnavailable):
            await anext(chunks)

    run_scenario(scenario, tmp_path)


def test_failed_reads_leave_no_file_open(tmp_path: Path) -> None:
    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage)
        (tmp_path / FILE_PATH).unlink()
        os.mkfifo(tmp_path / FILE_PATH)
        before = count_open_files()
        for operation in (storage.get, storage.open_stream):
            with pytest.raises(ForeignObject):
                await operation(KEY)
        assert count_open_files() == before

    run_scenario(scenario, tmp_path)


def test_cancelled_opens_leave_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_open = threading.Event()

    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage)
        before = count_open_files()
        monkeypatch.setattr(folder_backend._OpenFile, "__init__", open_when_allowed)
        tasks = [asyncio.create_task(storage.open_stream(KEY)) for _ in range(2 * folder_backend.MAX_THREADS)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(result, asyncio.CancelledError)
            for result in await asyncio.gather(*tasks, return_exceptions=True)
        )
        may_open.set()
        # The threads of the backend are idle afterwards.
        await storage.close()
        assert count_open_files() == before

    def open_when_allowed(file: folder_backend._OpenFile, descriptor: int) -> None:
        may_open.wait(20)
        original_init(file, descriptor)

    original_init = folder_backend._OpenFile.__init__
    run_scenario(scenario, tmp_path)


def test_closing_stream_during_read_closes_file_after_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor may be reused for another file as soon as it is closed."""
    reading, may_read = threading.Event(), threading.Event()

    def pread_slowly(descriptor: int, size: int, position: int) -> bytes:
        reading.set()
        may_read.wait(20)
        return pread(descriptor, size, position)

    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage, b"the image")
        before = count_open_files()
        stream = await storage.open_stream(KEY)
        monkeypatch.setattr(os, "pread", pread_slowly)
        chunk = asyncio.create_task(anext(aiter(stream)))
        await asyncio.to_thread(reading.wait, 60)
        stream.close()
        assert count_open_files() == before + 1
        may_read.set()
        assert await chunk == b"the image"
        assert count_open_files() == before

    pread = os.pread
    run_scenario(scenario, tmp_path)


def test_partially_written_file_is_not_an_image(tmp_path: Path) -> None:
    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage)
        (tmp_path / "48" / "nka7" / f".{JOB}.output-1.png.0123456789abcdef").write_bytes(b"hal")
        assert not await has_image(storage, make_object_key(JOB, "output-1.png"))
        assert await storage.delete_prefix(make_object_prefix(JOB)) == 1
        assert list_files(tmp_path) == []
        assert not (tmp_path / "48" / "nka7").exists()

    run_scenario(scenario, tmp_path)


def test_failed_write_keeps_previous_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_partially(descriptor: int, data: bytes) -> int:
        original_write(descriptor, data[:3])
        raise OSError(errno.EIO, "Input/output error")

    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage, b"the first")
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", write_partially)
            with pytest.raises(StorageUnavailable, match="failed: Input/output error"):
                await put_image(storage, b"the second")
        assert await storage.get(KEY) == b"the first"
        assert list_files(tmp_path) == [FILE_PATH]

    original_write = os.write
    run_scenario(scenario, tmp_path)


def test_put_syncs_file_and_folders_before_returning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path)))

    async def scenario(storage: ImageStorage) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        await put_image(storage)

    run_scenario(scenario, tmp_path)
    folder = "/48/nka7"
    assert [path.split(f"/.{JOB}")[0] for path in synced] == ["", "/48", folder, folder]
    assert f"/.{JOB}.output-0.png." in synced[2]


LINK_PATHS = {"the image": FILE_PATH, "the hour": "48/nka7", "the partition": "48"}


@pytest.mark.parametrize("linked_path", LINK_PATHS)
def test_symlink_inside_folder_is_not_followed(linked_path: str, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    file_name = FILE_PATH.rpartition("/")[2]
    secret = outside / {"the image": "secret", "the hour": file_name}.get(linked_path, f"nka7/{file_name}")
    secret.parent.mkdir(parents=True)
    secret.write_bytes(b"secret")
    link = root / LINK_PATHS[linked_path]
    link.parent.mkdir(parents=True)
    link.symlink_to(secret if linked_path == "the image" else outside)

    async def scenario(storage: ImageStorage) -> None:
        # A linked folder may be repaired; no retry turns a link into the image.
        error_class = ForeignObject if linked_path == "the image" else StorageUnavailable
        for operation in (storage.get(KEY), storage.open_stream(KEY), has_image(storage, KEY)):
            with pytest.raises(error_class, match="a link or another file"):
                await operation
        if linked_path == "the image":
            await put_image(storage)
            assert await storage.get(KEY) == b"image"
            assert not link.is_symlink()
        else:
            for operation in (put_image(storage), storage.delete_prefix(make_object_prefix(JOB))):
                with pytest.raises(StorageUnavailable, match="a link or another file"):
                    await operation

    run_scenario(scenario, root)
    assert list_files(outside) == [str(secret.relative_to(outside))]
    assert secret.read_bytes() == b"secret"


def test_deleting_symlink_keeps_its_target(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "root" / "48" / "nka7").mkdir(parents=True)
    (tmp_path / "root" / FILE_PATH).symlink_to(tmp_path / "precious")

    async def scenario(storage: ImageStorage) -> None:
        assert await storage.delete_prefix(make_object_prefix(JOB)) == 1

    run_scenario(scenario, tmp_path / "root")
    assert (tmp_path / "precious").read_bytes() == b"precious"


def create_special_file(kind: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "socket":
            # The name of a socket may be a hundred characters long.
            with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
                server.bind(path.name)


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket"])
def test_non_regular_file_is_not_read(kind: str, tmp_path: Path) -> None:
    create_special_file(kind, tmp_path / FILE_PATH)

    async def scenario(storage: ImageStorage) -> None:
        for operation in (storage.get(KEY), storage.open_stream(KEY), has_image(storage, KEY)):
            with pytest.raises(ForeignObject, match=FILE_PATH):
                await operation

    run_scenario(scenario, tmp_path)


def test_subfolder_does_not_stop_deletion_of_job_images(tmp_path: Path) -> None:
    """Expired jobs are deleted one by one: an error would keep all later ones."""
    create_special_file("folder", tmp_path / FILE_PATH)
    other_key = make_object_key(JOB, "output-1.png")

    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage, key=other_key)
        assert await storage.delete_prefix(make_object_prefix(JOB)) == 1

    run_scenario(scenario, tmp_path)
    assert list_files(tmp_path) == []
    assert (tmp_path / FILE_PATH).is_dir()


def test_storage_folder_itself_may_be_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "images").symlink_to(tmp_path / "disk")

    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage)
        assert list_files(tmp_path / "disk") == [FILE_PATH]

    run_scenario(scenario, tmp_path / "images")


def test_vanished_folder_is_unavailable_not_missing_image(tmp_path: Path) -> None:
    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage)
        (tmp_path / "root").rename(tmp_path / "unmounted")
        for operation in (
            storage.get(KEY),
            has_image(storage, KEY),
            put_image(storage),
            storage.delete_prefix(make_object_prefix(JOB)),
            storage.self_test(),
        ):
            with pytest.raises(StorageUnavailable, match="Check that its disk is mounted"):
                await operation
        (tmp_path / "unmounted").rename(tmp_path / "root")
        assert await storage.get(KEY) == b"image"

    run_scenario(scenario, tmp_path / "root")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_read_only_folder_is_unavailable(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_os_error(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    async def scenario(storage: ImageStorage) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", raise_os_error)
            with pytest.raises(StorageUnavailable, match="may not be used by this process"):
                await put_image(storage)
        await put_image(storage)

    run_scenario(scenario, tmp_path)


def test_hanging_disk_does_not_block_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(batched_file_writer, "_create_file", lambda *_: released.wait(10))

    async def scenario(storage: ImageStorage) -> None:
        hanging = [asyncio.ensure_future(put_image(storage)) for _ in range(folder_backend.MAX_THREADS + 2)]
        await asyncio.sleep(0.05)
        assert await asyncio.to_thread(lambda: "others work on") == "others work on"
        released.set()
        for error in await asyncio.gather(*hanging, return_exceptions=True):
            assert isinstance(error, StorageError)

    run_scenario(scenario, tmp_path)


def test_concurrent_puts_sync_each_file_but_their_folder_once_per_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path)))

    async def put_and_check(storage: ImageStorage, name: str) -> None:
        await put_image(storage, key=make_object_key(JOB, name))
        assert sum(f"/.{JOB}.{name}." in path for path in synced) == 1
        assert "/48/nka7" in synced[_find_sync(synced, name) :]

    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage)
        monkeypatch.setattr(os, "fsync", fsync)
        await asyncio.gather(*(put_and_check(storage, f"output-{number}.png") for number in range(100)))

    run_scenario(scenario, tmp_path)
    # The folder of an old hour may be removed by another replica, so its name is synced again for each group.
    folder_syncs = synced.count("/48/nka7")
    assert len(synced) == 100 + 2 * folder_syncs
    assert folder_syncs <= 10


def _find_sync(synced: list[str], name: str) -> int:
    return next(index for index, path in enumerate(synced) if f".{name}." in path)


def test_failed_write_fails_no_other_of_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_unless_bad(descriptor: int, data: bytes) -> int:
        if bytes(data) == b"bad":
            raise OSError(errno.EIO, "Input/output error")
        return original_write(descriptor, data)

    async def scenario(storage: ImageStorage) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", write_unless_bad)
            contents = [b"bad" if number % 3 == 0 else b"good" for number in range(30)]
            results = await asyncio.gather(
                *(
                    put_image(storage, content, make_object_key(JOB, f"output-{number}.png"))
                    for number, content in enumerate(contents)
                ),
                return_exceptions=True,
            )
        assert [isinstance(result, StorageUnavailable) for result in results] == [
            content == b"bad" for content in contents
        ]
        assert len(list_files(tmp_path)) == 20

    original_write = os.write
    run_scenario(scenario, tmp_path)


def test_empty_folder_is_removed_only_when_its_hour_is_over(tmp_path: Path) -> None:
    new_job = new_job_id("team")
    partition, hour = new_job[4:6], new_job[6:10]

    async def scenario(storage: ImageStorage) -> None:
        for job in (JOB, new_job):
            await put_image(storage, key=make_object_key(job, "output-0.png"))
            assert await storage.delete_prefix(make_object_prefix(job)) == 1
        assert not (tmp_path / "48" / "nka7").exists()
        assert (tmp_path / partition / hour).is_dir()
        await put_image(storage, key=make_object_key(new_job, "output-0.png"))

    run_scenario(scenario, tmp_path)


def test_folder_removed_by_another_program_is_made_again(tmp_path: Path) -> None:
    key = make_object_key(new_job_id("team"), "output-0.png")

    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage, key=key)
        shutil.rmtree(tmp_path / key[:2])
        with pytest.raises(StorageUnavailable):
            await put_image(storage, key=key)
        await put_image(storage, key=key)
        assert await storage.get(key) == b"image"

    run_scenario(scenario, tmp_path)
