"""Maps teams to partitions, and creates ids of jobs, files and batches that contain their partition and their hour."""

import re
import secrets
import time
from base64 import b32encode
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from zlib import crc32

PARTITIONS = 64
_BASE32_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_JOB, FILE, BATCH = "job_", "file-", "batch_"
_JOB_ID = re.compile(r"job_(\d\d)[0-9a-z]{26}", re.ASCII)
# Only jobs and files have stored objects.
_OBJECT_OWNER_ID = re.compile(r"(?:job_|file-)(\d\d)[0-9a-z]{26}", re.ASCII)


def team_partition(team: str) -> int:
    return crc32(team.encode()) % PARTITIONS


def new_job_id(
    team: str, draw_bytes: Callable[[int], bytes] = secrets.token_bytes, now: Callable[[], float] = time.time
) -> str:
    """Creates a job id."""
    return new_resource_id(_JOB, team, draw_bytes, now)


def new_resource_id(kind: str, team: str, draw_bytes: Callable[[int], bytes], now: Callable[[], float]) -> str:
    """Creates the id of a job, a file or a batch: the partition, by which a job is found, the hour, by which stored
    objects are found, and 110 random bits, so that no id can be guessed."""
    return f"{kind}{team_partition(team):02}{encode_hour(now())}{_encode_base32(draw_bytes(14))[:22]}"


def encode_hour(at: float) -> str:
    """Encodes the hour of a time in four letters and digits."""
    return _encode_base32((int(at // 3600) << 4).to_bytes(3, "big"))[:4]


def get_job_hour(job_id: str) -> str:
    """Returns the encoded hour of a valid id of a job or a file."""
    return job_id[-26:-22]


def get_job_day(job_id: str) -> str:
    """Returns the day (UTC) on which a job id was created; any day if the id is invalid."""
    return _decode_day(get_job_hour(job_id))


@lru_cache(maxsize=256)
def _decode_day(hour: str) -> str:
    hours = 0
    for character in hour:
        hours = hours * len(_BASE32_DIGITS) + max(0, _BASE32_DIGITS.find(character))
    return datetime.fromtimestamp(hours * 3_600, UTC).date().isoformat()


def _encode_base32(data: bytes) -> str:
    return b32encode(data).decode().lower()


def is_job_id(text: str) -> bool:
    return job_partition(text) is not None


def job_partition(job_id: str) -> int | None:
    """Returns the partition of a job id, or None for an invalid id."""
    return _match_partition(_JOB_ID, job_id)


def get_object_partition(owner_id: str) -> int | None:
    """Returns the partition of the stored objects of a job or a file, or None for an invalid id."""
    return _match_partition(_OBJECT_OWNER_ID, owner_id)


def _match_partition(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.fullmatch(text)
    return int(match[1]) if match and int(match[1]) < PARTITIONS else None
