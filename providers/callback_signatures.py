"""Verifies callback signatures in constant time. Several secrets may be valid during a rotation."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

TOLERANCE_SECONDS = 300


def verify_runflow_signature(headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> bool:
    """Verifies `Runflow-Signature`: the hex HMAC-SHA256 of the raw body; the key is the secret including `whsec_`."""
    signature = headers.get("runflow-signature", "")
    return _matches_any(
        signature,
        [_compute_hmac(secret.encode("utf-8", "backslashreplace"), body).hex() for secret in secrets if secret],
    )


def verify_runapi_signature(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> bool:
    """Verifies `X-Callback-Signature`: base64 of the HMAC of `id.timestamp.body`; the key is the decoded secret."""
    callback_id, timestamp = headers.get("x-callback-id", ""), headers.get("x-callback-timestamp", "")
    if not callback_id or not _is_recent(timestamp, now):
        return False
    message = f"{callback_id}.{timestamp}.".encode("utf-8", "backslashreplace") + body
    keys = [key for secret in secrets if (key := _decode_secret(secret))]
    expected = [base64.b64encode(_compute_hmac(key, message)).decode() for key in keys]
    return _matches_any(headers.get("x-callback-signature", ""), expected)


def _compute_hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _matches_any(signature: str, expected: Sequence[str]) -> bool:
    """Compares with every candidate, so that the duration does not reveal which one matched."""
    received = signature.encode("utf-8", "backslashreplace")
    return any([hmac.compare_digest(received, candidate.encode()) for candidate in expected])


def _is_recent(timestamp: str, now: float) -> bool:
    return (
        timestamp.isascii()
        and timestamp.isdigit()
        and len(timestamp) <= 12
        and abs(now - int(timestamp)) <= TOLERANCE_SECONDS
    )


def _decode_secret(secret: str) -> bytes | None:
    """Decodes a base64 secret in any form in which it may be copied: with a line end, in the URL-safe alphabet, or
    without padding."""
    normalized = secret.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(normalized + "=" * (-len(normalized) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
