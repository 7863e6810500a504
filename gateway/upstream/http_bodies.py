"""HTTP bodies: multipart encoding, streaming of requests, decoding and size limits of responses."""

import io
import re
import secrets
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

import httpx

from gateway.memory_budget import SMALL_BODY_BYTES, Reservation
from providers.adapter import FormPart

_CHUNK_BYTES = 256 << 10
# Memory is reserved in growing steps, so that there are few steps and the last one is not much larger than needed.
_GROWTH_FACTOR = 3
# Browsers escape names in forms like this, and servers decode them.
_FORM_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A", "\0": "%00"})
_MEDIA_TYPE = re.compile(r"[\x20-\x7e]*", re.ASCII)


class ResponseUnreadable(Exception):
    """The response could not be decoded: broken encoding or compression."""


class ResponseTooLarge(ResponseUnreadable):
    """The response is larger than allowed, or its Content-Length is."""


class RequestBody(httpx.AsyncByteStream):
    """Streams parts one after the other, without copying large ones.

    `on_written` is called before the seller responds, when the socket has accepted all but the last few chunks.
    """

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = parts
        self.size = sum(map(len, parts))
        self.on_written: Callable[[], None] = _ignore_written

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _ChunkIterator(self._parts, self.on_written)

    def read_all(self) -> bytes:
        """Returns a small body whole. It counts as written."""
        self.on_written()
        return b"".join(self._parts)


def _ignore_written() -> None:
    """Does nothing."""


class _ChunkIterator(AsyncIterator[bytes]):
    """Yields chunks. Not a generator: an interrupted generator would leave a task behind that closes it."""

    def __init__(self, parts: Sequence[bytes], on_written: Callable[[], None]) -> None:
        self._chunks = _split_chunks(parts)
        self._on_written = on_written

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        self._on_written()
        raise StopAsyncIteration


def _split_chunks(parts: Sequence[bytes]) -> Iterator[bytes]:
    for part in parts:
        view = memoryview(part)
        # A memoryview is sent like bytes; httpx's interface has no type for it.
        yield from (view[offset : offset + _CHUNK_BYTES] for offset in range(0, len(view), _CHUNK_BYTES))  # type: ignore[misc]


def encode_multipart(parts: Sequence[FormPart]) -> tuple[str, RequestBody]:
    """Encodes a form as multipart/form-data. Returns its content type and its body."""
    boundary = secrets.token_hex(16)
    pieces: list[bytes] = []
    for part in parts:
        pieces += (_render_part_head(part, boundary), part.data, b"\r\n")
    pieces.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", RequestBody(pieces)


def _render_part_head(part: FormPart, boundary: str) -> bytes:
    lines = [f"--{boundary}", f'Content-Disposition: form-data; name="{part.field.translate(_FORM_ESCAPES)}"']
    if part.filename is not None:
        lines[-1] += f'; filename="{part.filename.translate(_FORM_ESCAPES)}"'
    media_type = part.media_type or ("application/octet-stream" if part.filename is not None else "")
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise ValueError("invalid media type")
    if media_type:
        lines.append(f"Content-Type: {media_type}")
    return "\r\n".join((*lines, "", "")).encode()


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
                piece = self._decompressor.decompress(chunk, _CHUNK_BYTES)
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
