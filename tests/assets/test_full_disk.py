"""A full disk: the error says so, no partial file is left, and stored images stay."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.assets.object_keys import make_object_key, make_object_prefix
from gateway.assets.storage import ImageStorage, ObjectNotFound, StorageFull
from tests.assets.storage_scenarios import (
    FILE_PATH,
    JOB,
    KEY,
    OTHER_JOB,
    has_image,
    list_files,
    put_image,
    run_scenario,
)
from tests.harness.tmpfs import mount_tmpfs


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    with mount_tmpfs(tmp_path / "disk", 1) as disk:
        yield disk


def test_full_disk_raises_storage_full_until_space_is_free(tiny_disk: Path) -> None:
    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage, bytes(400_000))
        second = make_object_key(OTHER_JOB, "output-0.png")
        for _ in range(3):
            with pytest.raises(StorageFull, match="no space left"):
                await put_image(storage, bytes(900_000), second)
            with pytest.raises(StorageFull):
                await put_image(storage, bytes(900_000))
        assert await storage.get(KEY) == bytes(400_000)
        assert not await has_image(storage, second)
        assert list_files(tiny_disk) == [FILE_PATH]
        assert await storage.delete_prefix(make_object_prefix(JOB)) == 1
        await put_image(storage, bytes(900_000), second)
        with pytest.raises(ObjectNotFound):
            await storage.get(KEY)

    run_scenario(scenario, tiny_disk)


LIMITED_PROCESS_CODE = """
import asyncio, resource, signal, sys
from gateway.assets.storage import ImageStorage, StorageFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
async def main():
    storage = ImageStorage(sys.argv[1])
    await storage.put(sys.argv[2], bytes(90_000), "image/png")
    try:
        await storage.put(sys.argv[2], bytes(200_000), "image/png")
    except StorageFull as error:
        print("full", len(await storage.get(sys.argv[2])))
    await storage.close()
asyncio.run(main())
"""


def test_file_size_limit_raises_storage_full(tmp_path: Path) -> None:
    """Needs no mount, unlike a full disk: a write stops in the middle in the same way."""
    command = [sys.executable, "-c", LIMITED_PROCESS_CODE, str(tmp_path), KEY]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "full 90000"
    assert list_files(tmp_path) == [FILE_PATH]
