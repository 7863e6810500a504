"""Fetches the input images of requests as a vendor does: over HTTP, or from a data URI."""

import asyncio

import httpx

from sandbox import image_renderer

MAX_BYTES = 64 << 20
MAX_REDIRECTS = 3
TIMEOUT_SECONDS = 10.0


class SourceUnreadableError(Exception):
    """The URL could not be fetched, or its content is not an image."""


class SourceFetcher:
    """Fetches source images. Callers must have checked that the vendor accepts this kind of URL."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(
            trust_env=False, follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=TIMEOUT_SECONDS
        )

    async def fetch_image(self, address: str) -> image_renderer.SourceImage:
        """Fetches the image of a URL or a data URI."""
        try:
            data = (
                image_renderer.decode_data_uri(address)
                if address.startswith("data:")
                else await self.fetch_bytes(address)
            )
            return await asyncio.to_thread(image_renderer.read_image, data)
        except image_renderer.InvalidImageError as error:
            raise SourceUnreadableError(str(error)) from error

    async def fetch_bytes(self, url: str) -> bytes:
        """Fetches the bytes of a URL, up to a limit."""
        try:
            async with self._client.stream("GET", url) as response:
                if not response.is_success:
                    raise SourceUnreadableError(f"the URL answered with status {response.status_code}")
                return await _read_limited(response)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise SourceUnreadableError(f"the URL could not be reached ({type(error).__name__})") from error

    async def aclose(self) -> None:
        await self._client.aclose()


async def _read_limited(response: httpx.Response) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > MAX_BYTES:
            raise SourceUnreadableError(f"the file is larger than {MAX_BYTES >> 20} MiB")
    return bytes(data)
