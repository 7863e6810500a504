"""HTTP bodies of responses: decoding within size limits and a memory budget."""

import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence

import httpx

from gateway.memory_budget import SMALL_BODY_BYTES, Reservation

_PIECE_BYTES = 256 << 10
# Memory is reserved in growing steps, so that there are few steps and the last one is not much larger than needed.
_GROWTH_FACTOR = 3


class ResponseUnreadable(Exception):
    """The response could not be decoded: broken encoding or compression."""


class ResponseTooLarge(ResponseUnreadable):
    """The response is larger than allowed, or its Content-Length is."""


def get_response_stream(response: httpx.Response) -> httpx.AsyncByteStream:
    """Returns the response's stream, which the caller must close."""
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("response stream must be an AsyncByteStream")
    return response.stream


def get_response_headers(response: httpx.Response) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers.raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def read_response_body(
    stream: httpx.AsyncByteStream, headers: Mapping[str, str], max_bytes: int, reservation: Reservation
) -> bytes:
    """Reads and decodes a body, and waits for memory as it grows.

    Raises ResponseTooLarge or ResponseUnreadable.
    """
    declared = _parse_content_length(headers.get("content-length", ""))
    if declared > max_bytes:
        raise ResponseTooLarge
    decoder = _make_decoder(headers.get("content-encoding", ""))
    # Unlike a bytearray, BytesIO returns its content without copying it.
    body = io.BytesIO()
    reserved_bytes = SMALL_BODY_BYTES
    async for chunk in stream:
        for piece in decoder.decode(chunk):
            size = body.tell() + len(piece)
            if size > max_bytes:
                raise ResponseTooLarge
            if size > reserved_bytes:
                step = min(reserved_bytes * _GROWTH_FACTOR, reservation.max_step_bytes)
                reserved_bytes = min(max(declared, size, reserved_bytes + step), max_bytes)
                await reservation.grow_to(reserved_bytes)
            body.write(piece)
    decoder.finish()
    return body.getvalue()


def _parse_content_length(length: str) -> int:
    """Returns the declared length, or 0 if it is invalid. The transport checks whether the body has this length."""
    return int(length) if re.fullmatch(r"[0-9]{1,15}", length, re.ASCII) else 0


class _IdentityDecoder:
    def decode(self, chunk: bytes) -> Sequence[bytes]:
        return (chunk,)

    def finish(self) -> None:
        """Does nothing: the transport checks whether the body is complete."""


class _ZlibDecoder:
    """Decompresses the responses of servers that compress without being asked to. It works in small steps, since a
    response may be a zip bomb."""

    def __init__(self) -> None:
        # Accepts gzip and zlib headers.
        self._decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        while chunk and not self._decompressor.eof:
            try:
                piece = self._decompressor.decompress(chunk, _PIECE_BYTES)
            except zlib.error:
                raise ResponseUnreadable from None
            chunk = self._decompressor.unconsumed_tail
            yield piece

    def finish(self) -> None:
        if not self._decompressor.eof:
            raise ResponseUnreadable


_COMPRESSED_ENCODINGS = {"gzip", "x-gzip", "deflate"}


def _make_decoder(encoding: str) -> _IdentityDecoder | _ZlibDecoder:
    if encoding.strip().lower() in ("", "identity"):
        return _IdentityDecoder()
    if encoding.strip().lower() in _COMPRESSED_ENCODINGS:
        return _ZlibDecoder()
    raise ResponseUnreadable
