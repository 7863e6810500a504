"""Idempotency keys of requests, and fingerprints by which repeated requests are recognized."""

import hashlib
import re
from collections.abc import Mapping

from gateway.api.api_errors import ApiError
from gateway.jobs.commit import UNCOUNTED, IdempotencyRecord

IDEMPOTENCY_KEY_TTL_SECONDS = 86_400.0
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


def make_idempotency_record(
    headers: Mapping[str, str], fingerprint: str, client_id: str, deadline_seconds: float
) -> IdempotencyRecord:
    """Makes the record that recognizes a repetition of the request: by its key, or else by its body.

    It depends only on the bytes of the request, not on how a version of the gateway interprets them.
    """
    if (key := headers.get("idempotency-key")) is not None:
        if not _IDEMPOTENCY_KEY.fullmatch(key):
            message = "Invalid Idempotency-Key: it must have 1 to 255 visible ASCII characters."
            raise ApiError(400, "invalid_idempotency_key", message)
        key_digest = compute_fingerprint("key", key.encode())
        return IdempotencyRecord(key=key_digest, fingerprint=fingerprint, ttl_seconds=IDEMPOTENCY_KEY_TTL_SECONDS)
    return IdempotencyRecord(
        key=fingerprint,
        fingerprint=fingerprint,
        ttl_seconds=2 * deadline_seconds,
        is_body_key=True,
        retry_count=_parse_retry_count(headers.get("x-stainless-retry-count")),
        caller_id=client_id,
    )


def _parse_retry_count(header: str | None) -> int:
    """Parses the number of retries that an SDK counts; UNCOUNTED if it counts none."""
    if header is None:
        return UNCOUNTED
    return int(header[:3]) if header.isascii() and header.isdigit() else 0


def compute_fingerprint(path: str, body: bytes) -> str:
    # Two updates: concatenation would copy a large body.
    digest = hashlib.sha256(path.encode() + b"\n")
    digest.update(body)
    return digest.hexdigest()
