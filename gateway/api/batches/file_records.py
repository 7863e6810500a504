"""The record of a file: its name, purpose, size and times, and where its content is stored."""

import msgspec
from msgspec import Struct

from gateway.store.base import DAY_SECONDS
from gateway.store.team_records import RecordContent, TeamRecord

INPUT_PURPOSE, OUTPUT_PURPOSE = "batch", "batch_output"
DEFAULT_TTL_SECONDS = 30 * DAY_SECONDS
# An upload that does not end, since its process crashed, is deleted after this time.
UPLOAD_TTL_SECONDS = 3_600.0


class ChunkRun(Struct, frozen=True, array_like=True):
    """Consecutive chunks of a file that one writer stored. The fence distinguishes the chunks of several writers."""

    fence: int
    count: int


class FileRecord(RecordContent, frozen=True, kw_only=True, omit_defaults=True):
    """A file of a team. `chunks`: where its content lies. `is_complete`: whether all of it is stored."""

    expires_at: float
    filename: str
    purpose: str
    size_bytes: int = 0
    chunks: tuple[ChunkRun, ...] = ()
    is_complete: bool = False


_decoder = msgspec.msgpack.Decoder(FileRecord)


def decode_file(record: TeamRecord) -> FileRecord:
    return _decoder.decode(record.content)
