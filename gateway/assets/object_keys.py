"""Names under which pictures lie in the object store: made here, of nothing that anybody else has written. Pure."""

import re

from gateway.store.partitions import job_partition

_NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}(?:\.[a-z0-9]{1,8})?", re.ASCII)


class InvalidKey(ValueError):
    """What was given cannot name a picture of a job. It is not repeated: it may be anybody's text."""


def make_object_key(job_id: str, name: str) -> str:
    """`{NN}/{job}/{name}`, where NN is the job's partition. A name is small letters and digits, with one ending."""
    if not _NAME_PATTERN.fullmatch(name):
        raise InvalidKey("a picture's name holds 1 to 80 small letters, digits, - and _, and one ending")
    return make_job_prefix(job_id) + name


def make_job_prefix(job_id: str) -> str:
    """`{NN}/{job}/`: what everything of a job begins with, and nothing of any other."""
    partition = job_partition(job_id)
    if partition is None:
        raise InvalidKey("this is not the id of a job")
    return f"{partition:02}/{job_id}/"


def validate_key(key: str) -> str:
    """The key itself if `make_object_key` could have made it."""
    _, job_id, name = _split_key(key)
    if make_object_key(job_id, name) != key:
        raise InvalidKey("the job does not belong to this partition")
    return key


def validate_prefix(prefix: str) -> str:
    """The prefix itself if `make_job_prefix` could have made it: never one of several jobs, nor of all."""
    _, job_id, rest = _split_key(prefix)
    if rest or make_job_prefix(job_id) != prefix:
        raise InvalidKey("not the prefix of one job")
    return prefix


def _split_key(key: str) -> tuple[str, str, str]:
    parts = key.split("/")
    if len(parts) != 3:
        raise InvalidKey("a key has three parts: partition, job and name")
    return parts[0], parts[1], parts[2]
