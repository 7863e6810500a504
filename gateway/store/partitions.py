"""Maps teams to partitions, and creates job ids that contain their partition."""

import re
import secrets
from base64 import b32encode
from collections.abc import Callable
from zlib import crc32

PARTITIONS = 64
_JOB_ID = re.compile(r"job_(\d\d)[0-9a-z]{26}", re.ASCII)


def team_partition(team: str) -> int:
    return crc32(team.encode()) % PARTITIONS


def new_job_id(team: str, draw_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Creates a job id: the partition, by which the job is found, and 130 random bits, so that no id can be guessed."""
    return f"job_{team_partition(team):02}{b32encode(draw_bytes(17))[:26].decode().lower()}"


def is_job_id(text: str) -> bool:
    return job_partition(text) is not None


def job_partition(job_id: str) -> int | None:
    """Returns the partition of a job id, or None for an invalid id."""
    match = _JOB_ID.fullmatch(job_id)
    return int(match[1]) if match and int(match[1]) < PARTITIONS else None
