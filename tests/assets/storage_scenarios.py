"""Runs scenarios on a storage folder, with the object keys of two jobs."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.assets.object_keys import make_object_key
from gateway.assets.storage import ImageStorage, ObjectNotFound

JOB = "job_48nka7p8pc7avmya1bpy29g0nk5p"
OTHER_JOB = "job_48nka7p8pc7avmya1bpy29g0nk5q"
KEY = make_object_key(JOB, "output-0.png")
# Where the folder backend stores it: the third to sixth letter or digit of a job id after `job_` are its hour.
FILE_PATH = f"48/nka7/{JOB}.output-0.png"


def run_scenario(scenario: Callable[[ImageStorage], Awaitable[None]], root: Path) -> None:
    async def run_with_storage() -> None:
        storage = ImageStorage(str(root))
        try:
            await scenario(storage)
        finally:
            await storage.close()

    asyncio.run(asyncio.wait_for(run_with_storage(), 60))


async def put_image(storage: ImageStorage, data: bytes = b"image", key: str = KEY) -> None:
    await storage.put(key, data, "image/png")


async def has_image(storage: ImageStorage, key: str = KEY) -> bool:
    try:
        await storage.get(key)
    except ObjectNotFound:
        return False
    return True


def list_files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())
