"""Files of teams: stored in chunks, deleted when they expire, and after an upload whose process crashed."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.api.api_errors import ApiError
from gateway.api.batches.deleted_records import delete_expired_marks, find_record_or_mark
from gateway.api.batches.file_content import FILE_CHUNK_BYTES, FileContent, InputLine, LinePosition, iterate_lines
from gateway.api.batches.file_library import delete_expired_files, delete_file, extend_file, get_team_file, store_file
from gateway.api.batches.file_records import FileRecord
from gateway.assets.storage import ImageStorage
from gateway.store.team_records import RecordKind
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_storage import MemoryBackend
from tests.harness.memory_store.memory_state import MemoryState
from tests.harness.memory_store.store import MemoryStore

NOW, FILE_ID = 1_000.0, "file-00" + "a" * 26


class Library:
    """A store and a storage in memory, and the context that the file library needs."""

    def __init__(self) -> None:
        self.clock, self.backend = ManualClock(NOW), MemoryBackend()
        self.store = MemoryStore(MemoryState(), clock=self.clock)
        self.context: Any = SimpleNamespace(store=self.store, storage=ImageStorage(self.backend), wall_clock=self.clock)

    async def store_file(self, data: bytes) -> FileRecord:
        await self.store.open()
        file = FileRecord(
            id=FILE_ID, team="acme", created_at=NOW, expires_at=NOW + 100, filename="a.jsonl", purpose="batch"
        )
        return await store_file(self.context, file, data)

    async def is_found(self) -> bool:
        try:
            await get_team_file(self.context, "acme", FILE_ID)
        except ApiError:
            return False
        return True

    async def read_lines(self, file: FileRecord, start: LinePosition) -> list[InputLine]:
        return [line async for line in iterate_lines(FileContent(self.context.storage, file), start)]


def test_file_is_deleted_with_its_content_when_it_expires() -> None:
    async def scenario() -> None:
        library = Library()
        file = await library.store_file(b"x" * (FILE_CHUNK_BYTES + 1))
        assert (file.size_bytes, len(library.backend.objects)) == (FILE_CHUNK_BYTES + 1, 2)
        await extend_file(library.context, file, NOW + 200)
        library.clock.now += 150
        await delete_expired_files(library.context)
        assert await library.is_found()
        library.clock.now += 51
        assert not await library.is_found()
        await delete_expired_files(library.context)
        assert library.backend.objects == {}
        assert await library.store.team_records.load(FILE_ID) is None

    asyncio.run(scenario())


def test_place_of_a_deleted_file_is_known_for_a_day() -> None:
    async def scenario() -> None:
        library = Library()
        context, file = library.context, await library.store_file(b"x")
        for _ in range(2):
            await delete_file(context, file)
        for team, kind in (("acme", RecordKind.FILE), ("other", RecordKind.FILE), ("acme", RecordKind.BATCH)):
            mark = await find_record_or_mark(context, kind, team, FILE_ID)
            assert (mark is not None) == ((team, kind) == ("acme", RecordKind.FILE))
            assert mark is None or mark.created_at == NOW
        library.clock.now += 86_399
        await delete_expired_marks(context)
        assert await find_record_or_mark(context, RecordKind.FILE, "acme", FILE_ID) is not None
        library.clock.now += 1
        await delete_expired_marks(context)
        assert await find_record_or_mark(context, RecordKind.FILE, "acme", FILE_ID) is None

    asyncio.run(scenario())


def test_upload_that_did_not_end_is_invisible_and_deleted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        library = Library()
        put = library.backend.put

        async def fail_at_the_second_chunk(key: str, data: bytes, media_type: str) -> None:
            if library.backend.objects:
                raise asyncio.CancelledError
            await put(key, data, media_type)

        monkeypatch.setattr(library.backend, "put", fail_at_the_second_chunk)
        with pytest.raises(asyncio.CancelledError):
            await library.store_file(b"x" * (2 * FILE_CHUNK_BYTES))
        assert not await library.is_found()
        library.clock.now += 3_601
        await delete_expired_files(library.context)
        assert library.backend.objects == {}

    asyncio.run(scenario())


def test_lines_are_read_from_any_position_across_chunks() -> None:
    async def scenario() -> None:
        library = Library()
        texts = [b"%d " % number + b"x" * (300_000 + number) for number in range(40)]
        file = await library.store_file(b"\n\n".join(texts))
        lines = await library.read_lines(file, LinePosition())
        assert [line.data for line in lines] == texts
        assert [line.number for line in lines] == list(range(1, 80, 2))
        for index in (0, 13, 27, 38):
            start = LinePosition(lines[index].number, lines[index].end)
            assert await library.read_lines(file, start) == lines[index + 1 :]

    asyncio.run(scenario())


def test_line_that_is_too_long_has_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.batches.file_content.MAX_LINE_BYTES", 10)

    async def scenario() -> None:
        library = Library()
        file = await library.store_file(b"short\n" + b"x" * 11 + b"\nlast")
        lines = await library.read_lines(file, LinePosition())
        assert [(line.number, line.data) for line in lines] == [(1, b"short"), (2, None), (3, b"last")]

    asyncio.run(scenario())


def test_record_of_another_kind_or_team_is_not_found() -> None:
    async def scenario() -> None:
        library = Library()
        file = await library.store_file(b"x")
        with pytest.raises(ApiError) as foreign:
            await get_team_file(library.context, "other", FILE_ID)
        with pytest.raises(ApiError) as unknown:
            await get_team_file(library.context, "acme", replace(file, id="file-01" + "a" * 26).id)
        assert str(foreign.value) == str(unknown.value)

    asyncio.run(scenario())
