"""No room for another picture: said as such, nothing half-written is left, and what was there stays."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.assets.keys import key_of, prefix_of
from gateway.assets.shelf import Missing, Shelf, ShelfFull
from tests.assets.test_folder import JOB, KEY, OTHER, files_in, put, run


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "pictures", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)  # noqa: S607


def test_a_full_disk_says_so_and_works_again_when_there_is_room(tiny_disk: Path) -> None:
    async def scenario(shelf: Shelf) -> None:
        await put(shelf, bytes(400_000))
        second = key_of(OTHER, "output-0.png")
        for _ in range(3):
            with pytest.raises(ShelfFull, match="there is no room"):
                await put(shelf, bytes(900_000), second)
            with pytest.raises(ShelfFull):
                await put(shelf, bytes(900_000))
        assert await shelf.get(KEY) == bytes(400_000)
        assert not await shelf.exists(second)
        assert files_in(tiny_disk) == [KEY]
        assert await shelf.delete_prefix(prefix_of(JOB)) == 1
        await put(shelf, bytes(900_000), second)
        with pytest.raises(Missing):
            await shelf.get(KEY)

    run(scenario, tiny_disk)


LIMITED = """
import asyncio, resource, signal, sys
from gateway.assets.shelf import Shelf, ShelfFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
async def main():
    shelf = Shelf(sys.argv[1])
    await shelf.put(sys.argv[2], bytes(90_000), "image/png")
    try:
        await shelf.put(sys.argv[2], bytes(200_000), "image/png")
    except ShelfFull as error:
        print("full", len(await shelf.get(sys.argv[2])))
    await shelf.close()
asyncio.run(main())
"""


def test_a_limit_on_files_is_no_room_either(tmp_path: Path) -> None:
    """Where nothing can be mounted, this shows the same: a write that stops in the middle."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path), KEY]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert said.stdout.strip() == "full 90000"
    assert files_in(tmp_path) == [KEY]
