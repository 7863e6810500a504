"""Object keys of stored images: generated from job ids, never from client text. Pure."""

import re

from gateway.store.partitions import job_partition

_NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}(?:\.[a-z0-9]{1,8})?", re.ASCII)


class InvalidKey(ValueError):
    """The text is not a key of a job's image. The message does not repeat it, since it may come from a client."""


def make_object_key(job_id: str, name: str) -> str:
    """Returns `{NN}/{job}/{name}`, where NN is the job's partition."""
    if not _NAME_PATTERN.fullmatch(name):
        raise InvalidKey(
            "an image name must have 1 to 80 lower-case letters, digits, - and _, and at most one extension"
        )
    return make_job_prefix(job_id) + name


def make_job_prefix(job_id: str) -> str:
    """Returns `{NN}/{job}/`, the prefix of all keys of one job."""
    partition = job_partition(job_id)
    if partition is None:
        raise InvalidKey("not a job id")
    return f"{partition:02}/{job_id}/"


def validate_key(key: str) -> str:
    """Returns the key if `make_object_key` could have made it. Raises InvalidKey otherwise."""
    _, job_id, name = _split_key(key)
    if make_object_key(job_id, name) != key:
        raise InvalidKey("the job does not belong to this partition")
    return key


def validate_job_prefix(prefix: str) -> str:
    """Returns the prefix if `make_job_prefix` could have made it, for one job. Raises InvalidKey otherwise."""
    _, job_id, rest = _split_key(prefix)
    if rest or make_job_prefix(job_id) != prefix:
        raise InvalidKey("not the prefix of one job")
    return prefix


def _split_key(key: str) -> tuple[str, str, str]:
    parts = key.split("/")
    if len(parts) != 3:
        raise InvalidKey("a key must have three parts: partition, job and name")
    return parts[0], parts[1], parts[2]
