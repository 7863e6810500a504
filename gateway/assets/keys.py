"""Names under which pictures lie in the object store: made here, of nothing that anybody else has written. Pure."""

import re

from gateway.store.partitions import partition_of_job

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}(?:\.[a-z0-9]{1,8})?", re.ASCII)


class NotAKey(ValueError):
    """What was given cannot name a picture of a job. It is not repeated: it may be anybody's text."""


def key_of(job: str, name: str) -> str:
    """`{NN}/{job}/{name}`, where NN is the job's partition. A name is small letters and digits, with one ending."""
    if not _NAME.fullmatch(name):
        raise NotAKey("a picture's name holds 1 to 80 small letters, digits, - and _, and one ending")
    return prefix_of(job) + name


def prefix_of(job: str) -> str:
    """`{NN}/{job}/`: what everything of a job begins with, and nothing of any other."""
    partition = partition_of_job(job)
    if partition is None:
        raise NotAKey("this is not the id of a job")
    return f"{partition:02}/{job}/"


def require_key(key: str) -> str:
    """The key itself if `key_of` could have made it."""
    _, job, name = _parts(key)
    if key_of(job, name) != key:
        raise NotAKey("the job does not belong to this partition")
    return key


def require_prefix(prefix: str) -> str:
    """The prefix itself if `prefix_of` could have made it: never one of several jobs, nor of all."""
    _, job, nothing = _parts(prefix)
    if nothing or prefix_of(job) != prefix:
        raise NotAKey("not the prefix of one job")
    return prefix


def _parts(key: str) -> tuple[str, str, str]:
    parts = key.split("/")
    if len(parts) != 3:
        raise NotAKey("a key has three parts: partition, job and name")
    return parts[0], parts[1], parts[2]
