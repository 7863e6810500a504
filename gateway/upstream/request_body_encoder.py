"""HTTP bodies of requests: streaming without copies, and multipart encoding."""

import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import httpx

from providers.adapter import FormPart

_CHUNK_BYTES = 256 << 10
# Browsers escape names in forms like this, and servers decode them.
_FORM_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A", "\0": "%00"})
_MEDIA_TYPE = re.compile(r"[\x20-\x7e]*", re.ASCII)


class RequestBody(httpx.AsyncByteStream):
    """Streams parts one after the other, without copying large ones.

    `on_written` is called before the seller responds, when the socket has accepted all but the last few chunks.
    """

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = parts
        self.size = sum(map(len, parts))
        self.on_written: Callable[[], None] = _do_nothing

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _ChunkIterator(self._parts, self.on_written)

    def read_all(self) -> bytes:
        """Returns a small body whole. It counts as written."""
        self.on_written()
        return b"".join(self._parts)


def _do_nothing() -> None:
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
