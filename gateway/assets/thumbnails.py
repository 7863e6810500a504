"""Makes small versions of stored images, once each, and stores them beside the images."""

import asyncio
from contextlib import closing

from gateway.assets.image_conversion import shrink_image
from gateway.assets.image_header import read_header
from gateway.assets.object_keys import make_object_key
from gateway.assets.storage import ImageStorage, ObjectNotFound
from providers.orders import Format

WIDTHS = (160, 320, 640)
FORMAT = Format.WEBP


def make_thumbnail_key(image_key: str, width: int) -> str:
    """Returns the key of the thumbnail, which is deleted together with its image."""
    _, job_id, name = image_key.split("/")
    return make_object_key(job_id, f"{name.partition('.')[0]}-w{width}.{FORMAT}")


class ThumbnailMaker:
    """Makes thumbnails. Requests that need the same one at the same time share the work."""

    def __init__(self, storage: ImageStorage) -> None:
        self._storage = storage
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def make(self, image_key: str, width: int) -> str:
        """Makes the thumbnail unless it exists, and returns its key. Raises ObjectNotFound if the image is deleted."""
        key = make_thumbnail_key(image_key, width)
        try:
            (await self._storage.open_stream(key)).close()
        except ObjectNotFound:
            if (task := self._tasks.get(key)) is None:
                task = self._tasks[key] = asyncio.create_task(self._make_and_store(image_key, key, width))
                task.add_done_callback(lambda _: self._tasks.pop(key))
            # One client that disconnects must not end the work for the others.
            await asyncio.shield(task)
        return key

    async def _make_and_store(self, image_key: str, key: str, width: int) -> None:
        data = await self._storage.get(image_key)
        thumbnail = await shrink_image(data, read_header(data), width, FORMAT)
        await self._storage.put(key, thumbnail, FORMAT.media_type)
        try:
            with closing(await self._storage.open_stream(image_key)):
                return
        except ObjectNotFound:
            # The job was deleted meanwhile, so nothing else would delete this thumbnail.
            await self._storage.delete_prefix(image_key.rpartition("/")[0] + "/")
            raise
