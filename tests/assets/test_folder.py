"""A local folder of pictures: who may read it, what may lie in it, and what happens when there is no room."""

import asyncio
import contextlib
import errno
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.assets import folder
from gateway.assets.base import CHUNK_BYTES
from gateway.assets.keys import key_of, prefix_of
from gateway.assets.shelf import ForeignObject, Shelf, ShelfError, ShelfUnavailable

JOB = "job_48nka7p8pc7avmya1bpy29g0nk5p"
OTHER = "job_48nka7p8pc7avmya1bpy29g0nk5q"
KEY = key_of(JOB, "output-0.png")


def run(scenario: Callable[[Shelf], Awaitable[None]], root: Path) -> None:
    async def whole() -> None:
        shelf = Shelf(str(root))
        try:
            await scenario(shelf)
        finally:
            await shelf.close()

    asyncio.run(asyncio.wait_for(whole(), 20))


async def put(shelf: Shelf, data: bytes = b"picture", key: str = KEY) -> None:
    await shelf.put(key, data, "image/png")


def files_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_nobody_else_may_read_what_lies_here(tmp_path: Path) -> None:
    async def scenario(shelf: Shelf) -> None:
        await put(shelf)

    before = os.umask(0)
    try:
        run(scenario, tmp_path / "deep" / "pictures")
    finally:
        os.umask(before)
    for path in (tmp_path / "deep" / "pictures").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (tmp_path / "deep" / "pictures").stat().st_mode & 0o777 == 0o700


def test_a_large_picture_comes_in_chunks(tmp_path: Path) -> None:
    async def scenario(shelf: Shelf) -> None:
        await put(shelf, bytes(CHUNK_BYTES * 2 + 1))
        assert [len(chunk) async for chunk in await shelf.stream(KEY)] == [CHUNK_BYTES, CHUNK_BYTES, 1]

    run(scenario, tmp_path)


def test_a_reader_keeps_what_it_has_opened(tmp_path: Path) -> None:
    async def scenario(shelf: Shelf) -> None:
        await put(shelf, b"a" * 600_000)
        overwritten, deleted = await shelf.stream(KEY), await shelf.stream(KEY)
        await put(shelf, b"b" * 10)
        assert b"".join([chunk async for chunk in overwritten]) == b"a" * 600_000
        await shelf.delete_prefix(prefix_of(JOB))
        assert b"".join([chunk async for chunk in deleted]) == b"a" * 600_000

    run(scenario, tmp_path)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_no_file_stays_open_behind_a_reader_who_left(tmp_path: Path) -> None:
    """A file is closed by `close`, not by garbage collection."""

    async def scenario(shelf: Shelf) -> None:
        await put(shelf, bytes(600_000))
        before = open_files()
        kept = []
        for _ in range(20):
            unread, begun, read = [await shelf.stream(KEY) for _ in range(3)]
            chunks = aiter(begun)
            await anext(chunks)
            assert sum([len(chunk) async for chunk in read]) == 600_000
            assert open_files() == before + 3
            for stream in (unread, begun, read):
                stream.close()
                stream.close()
            assert await shelf.exists(KEY)
            assert len(await shelf.get(KEY)) == 600_000
            assert open_files() == before
            kept += [unread, begun, read, chunks]
        with pytest.raises(ShelfUnavailable):
            await anext(chunks)

    run(scenario, tmp_path)


def test_a_picture_that_is_no_file_stays_not_open(tmp_path: Path) -> None:
    async def scenario(shelf: Shelf) -> None:
        await put(shelf)
        (tmp_path / KEY).unlink()
        os.mkfifo(tmp_path / KEY)
        before = open_files()
        for work in (shelf.get, shelf.stream, shelf.exists):
            with pytest.raises(ForeignObject):
                await work(KEY)
        assert open_files() == before

    run(scenario, tmp_path)


def test_no_file_stays_open_behind_one_who_was_called_off_while_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_open = threading.Event()

    async def scenario(shelf: Shelf) -> None:
        await put(shelf)
        before = open_files()
        monkeypatch.setattr(folder._File, "__init__", waiting)
        tasks = [asyncio.create_task(shelf.stream(KEY)) for _ in range(2 * folder.THREADS)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*tasks, return_exceptions=True)
        )
        may_open.set()
        # Its threads do nothing else afterwards.
        await shelf.close()
        assert open_files() == before

    def waiting(file: folder._File, number: int) -> None:
        may_open.wait(20)
        begin(file, number)

    begin = folder._File.__init__
    run(scenario, tmp_path)


def test_a_file_that_is_being_read_is_closed_by_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file may get its number as soon as it is closed."""
    reading, may_read = threading.Event(), threading.Event()

    def slowly(number: int, most: int, position: int) -> bytes:
        reading.set()
        may_read.wait(20)
        return pread(number, most, position)

    async def scenario(shelf: Shelf) -> None:
        await put(shelf, b"the picture")
        before = open_files()
        stream = await shelf.stream(KEY)
        monkeypatch.setattr(os, "pread", slowly)
        chunk = asyncio.create_task(anext(aiter(stream)))
        await asyncio.to_thread(reading.wait, 20)
        stream.close()
        assert open_files() == before + 1
        may_read.set()
        assert await chunk == b"the picture"
        assert open_files() == before

    pread = os.pread
    run(scenario, tmp_path)


def test_what_was_half_written_when_a_process_ended_is_no_picture(tmp_path: Path) -> None:
    async def scenario(shelf: Shelf) -> None:
        await put(shelf)
        (tmp_path / "48" / JOB / ".output-1.png.0123456789abcdef").write_bytes(b"hal")
        assert not await shelf.exists(key_of(JOB, "output-1.png"))
        assert await shelf.delete_prefix(prefix_of(JOB)) == 1
        assert files_in(tmp_path) == []
        assert not (tmp_path / "48" / JOB).exists()

    run(scenario, tmp_path)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(name: str, data: bytes, place: int) -> None:
        folder_write(name, data[:3], place)
        raise OSError(errno.EIO, "Input/output error")

    async def scenario(shelf: Shelf) -> None:
        await put(shelf, b"the first")
        monkeypatch.setattr(folder, "_write", break_off)
        with pytest.raises(ShelfUnavailable, match="is in trouble: Input/output error"):
            await put(shelf, b"the second")
        assert await shelf.get(KEY) == b"the first"
        assert files_in(tmp_path) == [KEY]

    folder_write = folder._write
    run(scenario, tmp_path)


def test_file_and_name_reach_the_disk_before_it_is_said_to_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(number: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{number}").removeprefix(str(tmp_path)))

    async def scenario(shelf: Shelf) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        await put(shelf)

    run(scenario, tmp_path)
    parent = f"/48/{JOB}"
    assert [path.split("/.output")[0] for path in synced] == ["", "/48", parent, parent]
    assert "/.output-0.png." in synced[2]


LINKED = {
    "the picture": KEY,
    "the job's folder": f"48/{JOB}",
    "the partition": "48",
}


@pytest.mark.parametrize("place", LINKED)
def test_a_link_laid_into_the_folder_leads_nowhere(place: str, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    secret = outside / {"the picture": "secret", "the job's folder": "output-0.png"}.get(place, f"{JOB}/output-0.png")
    secret.parent.mkdir(parents=True)
    secret.write_bytes(b"secret")
    link = root / LINKED[place]
    link.parent.mkdir(parents=True)
    link.symlink_to(secret if place == "the picture" else outside)

    async def scenario(shelf: Shelf) -> None:
        # What lies on the way may be set right again; no retry turns a link into the picture.
        kind = ForeignObject if place == "the picture" else ShelfUnavailable
        for work in (shelf.get(KEY), shelf.stream(KEY), shelf.exists(KEY)):
            with pytest.raises(kind, match="a link or something else"):
                await work
        if place == "the picture":
            await put(shelf)
            assert await shelf.get(KEY) == b"picture"
            assert not link.is_symlink()
        else:
            for work in (put(shelf), shelf.delete_prefix(prefix_of(JOB))):
                with pytest.raises(ShelfUnavailable, match="a link or something else"):
                    await work

    run(scenario, root)
    assert files_in(outside) == [str(secret.relative_to(outside))]
    assert secret.read_bytes() == b"secret"


def test_deleting_a_link_leaves_what_it_led_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "root" / "48" / JOB).mkdir(parents=True)
    (tmp_path / "root" / KEY).symlink_to(tmp_path / "precious")

    async def scenario(shelf: Shelf) -> None:
        assert await shelf.delete_prefix(prefix_of(JOB)) == 1

    run(scenario, tmp_path / "root")
    assert (tmp_path / "precious").read_bytes() == b"precious"


def lay(kind: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "socket":
            # The name of a socket may be a hundred characters long.
            with socket.socket(socket.AF_UNIX) as one, contextlib.chdir(path.parent):
                one.bind(path.name)


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket"])
def test_what_is_no_file_is_not_read(kind: str, tmp_path: Path) -> None:
    lay(kind, tmp_path / KEY)

    async def scenario(shelf: Shelf) -> None:
        for work in (shelf.get(KEY), shelf.stream(KEY), shelf.exists(KEY)):
            with pytest.raises(ForeignObject, match=KEY):
                await work

    run(scenario, tmp_path)


def test_a_folder_among_the_pictures_of_a_job_does_not_stop_their_deletion(tmp_path: Path) -> None:
    """Sweeping goes job by job: an error would keep all later ones."""
    lay("folder", tmp_path / KEY)
    others = key_of(JOB, "output-1.png")

    async def scenario(shelf: Shelf) -> None:
        await put(shelf, key=others)
        assert await shelf.delete_prefix(prefix_of(JOB)) == 1

    run(scenario, tmp_path)
    assert files_in(tmp_path) == []
    assert (tmp_path / KEY).is_dir()


def test_the_operator_may_have_the_folder_itself_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "pictures").symlink_to(tmp_path / "disk")

    async def scenario(shelf: Shelf) -> None:
        await put(shelf)
        assert files_in(tmp_path / "disk") == [KEY]

    run(scenario, tmp_path / "pictures")


def test_a_folder_that_vanished_is_no_missing_picture(tmp_path: Path) -> None:
    async def scenario(shelf: Shelf) -> None:
        await put(shelf)
        (tmp_path / "root").rename(tmp_path / "unmounted")
        for work in (shelf.get(KEY), shelf.exists(KEY), put(shelf), shelf.delete_prefix(prefix_of(JOB)), shelf.check()):
            with pytest.raises(ShelfUnavailable, match="is its disk still mounted"):
                await work
        (tmp_path / "unmounted").rename(tmp_path / "root")
        assert await shelf.get(KEY) == b"picture"

    run(scenario, tmp_path / "root")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_folder_that_may_not_be_written(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    async def scenario(shelf: Shelf) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", forbidden)
            with pytest.raises(ShelfUnavailable, match="may not be used by this process"):
                await put(shelf)
        await put(shelf)

    run(scenario, tmp_path)


def test_a_disk_that_hangs_does_not_hold_up_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(folder, "_write", lambda *_: released.wait(10))

    async def scenario(shelf: Shelf) -> None:
        hanging = [asyncio.ensure_future(put(shelf)) for _ in range(folder.THREADS + 2)]
        await asyncio.sleep(0.05)
        assert await asyncio.to_thread(lambda: "others work on") == "others work on"
        released.set()
        for error in await asyncio.gather(*hanging, return_exceptions=True):
            assert isinstance(error, ShelfError)

    run(scenario, tmp_path)
