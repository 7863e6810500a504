"""Which partition a team's keys belong to, and job ids that carry it."""

import re
import secrets
from base64 import b32encode
from zlib import crc32

PARTITIONS = 64
_JOB_ID = re.compile(r"job_(\d\d)[0-9a-z]{26}", re.ASCII)


def team_partition(team: str) -> int:
    return crc32(team.encode()) % PARTITIONS


def new_job_id(team: str) -> str:
    """130 random bits, so that nobody guesses another team's; and the partition, so that the job is found by its id."""
    return f"job_{team_partition(team):02}{b32encode(secrets.token_bytes(17))[:26].decode().lower()}"


def is_job_id(text: str) -> bool:
    return job_partition(text) is not None


def job_partition(job_id: str) -> int | None:
    """None if this cannot be the id of any job."""
    match = _JOB_ID.fullmatch(job_id)
    return int(match[1]) if match and int(match[1]) < PARTITIONS else None
