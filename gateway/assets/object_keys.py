"""Object keys of stored images and files: generated from the ids of jobs and files, never from client text. Pure."""

import re

from gateway.store.partitions import get_object_partition

_NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}(?:\.[a-z0-9]{1,8})?", re.ASCII)


class InvalidKey(ValueError):
    """The text is not a key of a job's image. The message does not repeat it, since it may come from a client."""


def make_object_key(owner_id: str, name: str) -> str:
    """Returns `{NN}/{id}/{name}` for an object of a job or a file, where NN is the partition in the id."""
    if not _NAME_PATTERN.fullmatch(name):
        raise InvalidKey(
            "an image name must have 1 to 80 lower-case letters, digits, - and _, and at most one extension"
        )
    return make_object_prefix(owner_id) + name


def make_object_prefix(owner_id: str) -> str:
    """Returns `{NN}/{id}/`, the prefix of all keys of one job or file."""
    partition = get_object_partition(owner_id)
    if partition is None:
        raise InvalidKey("not the id of a job or a file")
    return f"{partition:02}/{owner_id}/"


def validate_key(key: str) -> str:
    """Returns the key if `make_object_key` could have made it. Raises InvalidKey otherwise."""
    _, owner_id, name = _split_key(key)
    if make_object_key(owner_id, name) != key:
        raise InvalidKey("the job does not belong to this partition")
    return key


def validate_object_prefix(prefix: str) -> str:
    """Returns the prefix if `make_object_prefix` could have made it. Raises InvalidKey otherwise."""
    _, owner_id, rest = _split_key(prefix)
    if rest or make_object_prefix(owner_id) != prefix:
        raise InvalidKey("not the prefix of one job or file")
    return prefix


def _split_key(key: str) -> tuple[str, str, str]:
    parts = key.split("/")
    if len(parts) != 3:
        raise InvalidKey("a key must have three parts: partition, job and name")
    return parts[0], parts[1], parts[2]
