"""Ids of responses and of their image generation calls. They contain the id of the job, so no other id is stored."""

import re

from msgspec import Struct

from gateway.store.partitions import is_job_id

_JOB_PREFIX, _RESPONSE_PREFIX, _CALL_PREFIX = "job_", "resp_", "ig_"
_CALL_ID = re.compile(r"ig_([0-9a-z]{28})_(\d)", re.ASCII)


class ImageCallId(Struct, frozen=True):
    """The job and the index of the image that a call made."""

    job_id: str
    index: int


def make_response_id(job_id: str) -> str:
    return _RESPONSE_PREFIX + job_id.removeprefix(_JOB_PREFIX)


def parse_response_id(response_id: str) -> str | None:
    """Returns the id of the response's job; None for an invalid id."""
    job_id = _JOB_PREFIX + response_id.removeprefix(_RESPONSE_PREFIX)
    return job_id if response_id.startswith(_RESPONSE_PREFIX) and is_job_id(job_id) else None


def make_message_id(job_id: str) -> str:
    """Makes the id of the message with the input of a response."""
    return f"msg_{job_id.removeprefix(_JOB_PREFIX)}"


def make_call_id(job_id: str, index: int) -> str:
    return f"{_CALL_PREFIX}{job_id.removeprefix(_JOB_PREFIX)}_{index}"


def parse_call_id(call_id: str) -> ImageCallId | None:
    match = _CALL_ID.fullmatch(call_id)
    if match is None or not is_job_id(_JOB_PREFIX + match[1]):
        return None
    return ImageCallId(_JOB_PREFIX + match[1], int(match[2]))
