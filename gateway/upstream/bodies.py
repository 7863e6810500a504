"""Bodies on their way out and in: streamed, counted, and never larger than agreed."""

import io
import re
import secrets
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

import httpx

from gateway.upstream.budget import SMALL_BYTES, Room
from providers.spec import FormPart

_PIECE_BYTES = 256 << 10
# Room is taken in ever larger steps: few of them, and the last not much more than is needed.
_GROWTH = 3
# What browsers do with names in forms, and servers undo.
_FORM_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A", "\0": "%00"})
_MEDIA_TYPE = re.compile(r"[\x20-\x7e]*", re.ASCII)


class AnswerUnreadable(Exception):
    """An answer came, and is not one that can be taken in."""


class AnswerTooLarge(AnswerUnreadable):
    """It is larger than agreed, or claims to be."""


class Outgoing(httpx.AsyncByteStream):
    """Pieces one after the other. Large ones leave as views of themselves, so that nothing is held twice.

    `when_written` is called when the socket has taken all of them, but for the last few views. How long the seller
    then thinks about it is another matter.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self.size = sum(map(len, pieces))
        self.when_written: Callable[[], None] = _nothing

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Views(self._pieces, self.when_written)


def _nothing() -> None:
    """Nobody wants to know."""


class _Views(AsyncIterator[bytes]):
    """No generator: one that is cut short would leave a task behind that closes it."""

    def __init__(self, pieces: Sequence[bytes], when_written: Callable[[], None]) -> None:
        self._views = _views(pieces)
        self._when_written = when_written

    async def __anext__(self) -> bytes:
        for view in self._views:
            return view
        self._when_written()
        raise StopAsyncIteration


def _views(pieces: Sequence[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        view = memoryview(piece)
        # Whoever writes to a socket takes views as well as bytes; the interface has no word for it.
        yield from (view[at : at + _PIECE_BYTES] for at in range(0, len(view), _PIECE_BYTES))  # type: ignore[misc]


def form(parts: Sequence[FormPart]) -> tuple[str, Outgoing]:
    """multipart/form-data: its content type, and its body."""
    boundary = secrets.token_hex(16)
    pieces: list[bytes] = []
    for part in parts:
        pieces += (_part_head(part, boundary), part.data, b"\r\n")
    pieces.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", Outgoing(pieces)


def _part_head(part: FormPart, boundary: str) -> bytes:
    lines = [f"--{boundary}", f'Content-Disposition: form-data; name="{part.field.translate(_FORM_ESCAPES)}"']
    if part.filename is not None:
        lines[-1] += f'; filename="{part.filename.translate(_FORM_ESCAPES)}"'
    media_type = part.media_type or ("application/octet-stream" if part.filename is not None else "")
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise ValueError("not a media type")
    if media_type:
        lines.append(f"Content-Type: {media_type}")
    return "\r\n".join((*lines, "", "")).encode()


def stream_of(response: httpx.Response) -> httpx.AsyncByteStream:
    """To be closed by whoever asks for it."""
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("the transport is not asynchronous")
    return response.stream


def headers_of(response: httpx.Response) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers.raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def read_whole(stream: httpx.AsyncByteStream, headers: Mapping[str, str], most_bytes: int, room: Room) -> bytes:
    """The body, as soon as there is room for it."""
    declared = _declared(headers.get("content-length", ""))
    if declared > most_bytes:
        raise AnswerTooLarge
    unpacked = _unpacker(headers.get("content-encoding", ""))
    # Unlike a bytearray, this hands its content over without copying it.
    whole = io.BytesIO()
    covered = SMALL_BYTES
    async for chunk in stream:
        for piece in unpacked.pieces(chunk):
            size = whole.tell() + len(piece)
            if size > most_bytes:
                raise AnswerTooLarge
            if size > covered:
                step = min(covered * _GROWTH, room.max_step)
                covered = min(max(declared, size, covered + step), most_bytes)
                await room.grow(covered)
            whole.write(piece)
    unpacked.finish()
    return whole.getvalue()


def _declared(length: str) -> int:
    """Whether it is true, the transport checks; a nonsense length counts for nothing here."""
    return int(length) if re.fullmatch(r"[0-9]{1,15}", length, re.ASCII) else 0


class _Plain:
    def pieces(self, chunk: bytes) -> Sequence[bytes]:
        return (chunk,)

    def finish(self) -> None:
        """Whether anything is missing, the transport knows."""


class _Packed:
    """Some answer packed although we ask them not to. A little of it may unpack to very much, so: bit by bit."""

    def __init__(self) -> None:
        # Either of gzip's and zlib's frames.
        self._unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        while chunk and not self._unpacking.eof:
            try:
                piece = self._unpacking.decompress(chunk, _PIECE_BYTES)
            except zlib.error:
                raise AnswerUnreadable from None
            chunk = self._unpacking.unconsumed_tail
            yield piece

    def finish(self) -> None:
        if not self._unpacking.eof:
            raise AnswerUnreadable


_PACKED = {"gzip", "x-gzip", "deflate"}


def _unpacker(encoding: str) -> _Plain | _Packed:
    if encoding.strip().lower() in ("", "identity"):
        return _Plain()
    if encoding.strip().lower() in _PACKED:
        return _Packed()
    raise AnswerUnreadable
