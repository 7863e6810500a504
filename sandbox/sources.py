"""Fetches what callers point at, as a vendor would: over HTTP, or out of a data URI."""

import asyncio

import httpx

from sandbox import pictures

MAX_BYTES = 64 << 20
MAX_REDIRECTS = 3
TIMEOUT_SECONDS = 10.0


class UnreadableError(Exception):
    """What stands behind the address could not be had, or is no picture."""


class Sources:
    """Whoever uses it has checked that the address is one of the kinds that its vendor takes."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(
            trust_env=False, follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=TIMEOUT_SECONDS
        )

    async def picture(self, address: str) -> pictures.Source:
        """The picture behind a URL or in a data URI."""
        try:
            data = pictures.from_data_uri(address) if address.startswith("data:") else await self.data(address)
            return await asyncio.to_thread(pictures.read, data)
        except pictures.NotAPictureError as error:
            raise UnreadableError(str(error)) from error

    async def data(self, url: str) -> bytes:
        """The bytes behind a URL, up to a limit."""
        try:
            async with self._client.stream("GET", url) as answer:
                if not answer.is_success:
                    raise UnreadableError(f"the address answered {answer.status_code}")
                return await _limited(answer)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise UnreadableError(f"the address could not be reached ({type(error).__name__})") from error

    async def aclose(self) -> None:
        await self._client.aclose()


async def _limited(answer: httpx.Response) -> bytes:
    data = bytearray()
    async for piece in answer.aiter_bytes():
        data += piece
        if len(data) > MAX_BYTES:
            raise UnreadableError(f"more than {MAX_BYTES >> 20} MiB")
    return bytes(data)
