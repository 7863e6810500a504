"""Idempotency keys of requests, and fingerprints by which repeated requests are recognized."""

import hashlib
import re

from gateway.api.api_errors import ApiError

IDEMPOTENCY_KEY_TTL_SECONDS = 86_400.0
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


def validate_idempotency_key(key: str | None) -> str | None:
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        message = "Invalid Idempotency-Key: it must have 1 to 255 visible ASCII characters."
        raise ApiError(400, "invalid_idempotency_key", message)
    return key


def compute_fingerprint(path: str, body: bytes) -> str:
    # Two updates: concatenation would copy a large body.
    digest = hashlib.sha256(path.encode() + b"\n")
    digest.update(body)
    return digest.hexdigest()
