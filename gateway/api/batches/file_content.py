"""The content of files, stored as chunks in the image storage, so that no file is ever in memory as a whole."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing

from msgspec import Struct

from gateway.api.batches.file_records import ChunkRun, FileRecord
from gateway.api.request_body_reader import MAX_BODY_BYTES
from gateway.assets.object_keys import make_object_key
from gateway.assets.storage import ImageStorage, ObjectStream

# All chunks of an uploaded file but its last have this size.
FILE_CHUNK_BYTES = 4 << 20
MAX_LINE_BYTES = MAX_BODY_BYTES
_MEDIA_TYPE = "application/octet-stream"


class ChunkWriter:
    """Appends to a file, chunk by chunk. `run`: the chunks that this writer has stored."""

    def __init__(self, storage: ImageStorage, file_id: str, fence: int) -> None:
        self._storage, self._file_id = storage, file_id
        self.run = ChunkRun(fence, 0)
        self.size_bytes = 0
        self._pieces: list[bytes] = []
        self._buffered_bytes = 0

    async def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._buffered_bytes += len(data)
        self.size_bytes += len(data)
        if self._buffered_bytes >= FILE_CHUNK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Stores the buffered bytes. Safe to repeat after a failure."""
        if not self._buffered_bytes:
            return
        data = b"".join(self._pieces)
        await self._storage.put(_make_chunk_key(self._file_id, self.run.fence, self.run.count), data, _MEDIA_TYPE)
        self.run = ChunkRun(self.run.fence, self.run.count + 1)
        self._pieces, self._buffered_bytes = [], 0


class FileContent:
    """Reads a file's content, chunk by chunk. The reader must close it."""

    def __init__(self, storage: ImageStorage, file: FileRecord) -> None:
        self._storage, self._file = storage, file
        self._stream: ObjectStream | None = None

    async def read(self, offset: int = 0) -> AsyncIterator[bytes]:
        """Yields the content from `offset` on. An offset above 0 needs an uploaded file, whose chunks have one size."""
        first_chunk, skipped_bytes = divmod(offset, FILE_CHUNK_BYTES)
        for index, key in enumerate(_iterate_chunk_keys(self._file)):
            if index < first_chunk:
                continue
            with closing(await self._storage.open_stream(key)) as self._stream:
                async for piece in self._stream.read_range(skipped_bytes, self._stream.size):
                    yield piece
            skipped_bytes = 0

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


class InputLine(Struct, frozen=True):
    """A line of an uploaded file, without its line break. `data` is None if the line is too long.

    `end`: the offset after the line break.
    """

    number: int
    end: int
    data: bytes | None


class LinePosition(Struct, frozen=True, array_like=True):
    """A place between two lines: the number of lines before it, and its offset."""

    line: int = 0
    offset: int = 0


FIRST_POSITION = LinePosition()


async def iterate_lines(content: FileContent, start: LinePosition = FIRST_POSITION) -> AsyncIterator[InputLine]:
    """Yields the lines from `start` on, without blank lines."""
    splitter = _LineSplitter(start)
    async for piece in content.read(start.offset):
        for line in splitter.split(piece):
            yield line
    for line in splitter.split(b"\n"):
        yield line


class _LineSplitter:
    def __init__(self, start: LinePosition) -> None:
        self._number, self._offset = start.line, start.offset
        self._pieces: list[bytes] = []
        self._size = 0

    def split(self, piece: bytes) -> Iterator[InputLine]:
        """Yields the lines that end in this piece."""
        *ends, rest = piece.split(b"\n")
        for end in ends:
            self._add(end)
            self._number, self._offset = self._number + 1, self._offset + self._size + 1
            data = b"".join(self._pieces)
            if self._size > MAX_LINE_BYTES or data.strip():
                yield InputLine(self._number, self._offset, None if self._size > MAX_LINE_BYTES else data)
            self._pieces, self._size = [], 0
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_LINE_BYTES:
            self._pieces = []
        elif piece:
            self._pieces.append(piece)


def _make_chunk_key(file_id: str, fence: int, index: int) -> str:
    return make_object_key(file_id, f"{fence}-{index:06}")


def _iterate_chunk_keys(file: FileRecord) -> Iterator[str]:
    for run in file.chunks:
        for index in range(run.count):
            yield _make_chunk_key(file.id, run.fence, index)
