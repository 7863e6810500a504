"""Signed URLs of delivered images: a URL permits the download of its image until it expires. Pure."""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence

from gateway.assets.object_keys import InvalidKey, validate_key

FILES_PATH = "/files/"
_PURPOSE = b"image-gateway: signed image URLs, 1"
# Exactly as `sign` writes it: any other order, spelling or additional parameter is invalid.
_QUERY_PATTERN = re.compile(r"exp=(0|[1-9]\d{0,11})&sig=([A-Za-z0-9_-]{43})", re.ASCII)
_MAX_EXPIRES_AT = 10**12 - 1


class UrlSigner:
    """Signs and verifies image URLs. The first secret signs; all are accepted, so that secrets can be rotated."""

    def __init__(self, secrets: Sequence[bytes], base_url: str) -> None:
        if not secrets or not all(secrets):
            raise ValueError("signed URLs need at least one secret, and none may be empty")
        self._keys = tuple(_derive_key(secret) for secret in secrets)
        self._base_url = base_url.rstrip("/") + FILES_PATH

    def sign(self, key: str, expires_at: int) -> str:
        """Returns the URL of an image, valid until `expires_at` in seconds since 1970."""
        validate_key(key)
        if not 0 <= expires_at <= _MAX_EXPIRES_AT:
            raise ValueError("expires_at must be between 0 and 999999999999 seconds since 1970")
        return f"{self._base_url}{key}?exp={expires_at}&sig={_compute_signature(self._keys[0], key, str(expires_at))}"

    def verify(self, key: str, query: str, now: float) -> bool:
        """Returns whether the key and the raw query string carry a valid signature that has not expired."""
        match = _QUERY_PATTERN.fullmatch(query)
        if not match or not _is_valid_key(key):
            return False
        expires_at, signature = match.groups()
        # Compares with the signatures of all secrets, so that the time taken reveals nothing.
        is_signed = any(
            [hmac.compare_digest(signature, _compute_signature(secret, key, expires_at)) for secret in self._keys]
        )
        return is_signed and now < int(expires_at)


def _is_valid_key(key: str) -> bool:
    try:
        validate_key(key)
    except InvalidKey:
        return False
    return True


def _compute_signature(secret: bytes, key: str, expires_at: str) -> str:
    """Signs key and expiry as two lines. Neither contains a line break, so no two pairs have the same text."""
    digest = _compute_hmac(secret, b"\n".join((_PURPOSE, key.encode(), expires_at.encode())))
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _derive_key(secret: bytes) -> bytes:
    """Derives a key by HKDF (RFC 5869), one block, so that URL signatures are valid for no other purpose."""
    return _compute_hmac(_compute_hmac(bytes(32), secret), _PURPOSE + b"\x01")


def _compute_hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()
