"""Signed addresses of delivered pictures: who holds one may fetch that picture until it expires. Pure."""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence

from gateway.assets.object_keys import InvalidKey, validate_key

FILES_PATH = "/files/"
_PURPOSE = b"image-gateway: links to delivered pictures, 1"
# Exactly as we write it: no other order, spelling, doubled or further parameter is a link of ours.
_QUERY_PATTERN = re.compile(r"exp=(0|[1-9]\d{0,11})&sig=([A-Za-z0-9_-]{43})", re.ASCII)
_MAX_EXPIRES_AT = 10**12 - 1


class UrlSigner:
    """The first secret signs; all are accepted, so that links live on while one secret replaces another."""

    def __init__(self, secrets: Sequence[bytes], base_url: str) -> None:
        if not secrets or not all(secrets):
            raise ValueError("links need at least one secret, and none may be empty")
        self._keys = tuple(_derive_key(secret) for secret in secrets)
        self._base_url = base_url.rstrip("/") + FILES_PATH

    def sign(self, key: str, expires_at: int) -> str:
        """The address of this picture, good until that second."""
        validate_key(key)
        if not 0 <= expires_at <= _MAX_EXPIRES_AT:
            raise ValueError("a link expires at a second between 1970 and the year 33658")
        return f"{self._base_url}{key}?exp={expires_at}&sig={_compute_signature(self._keys[0], key, str(expires_at))}"

    def verify(self, key: str, query: str, now: float) -> bool:
        """Whether a link with this path and this raw query string was signed by us, and has not expired."""
        match = _QUERY_PATTERN.fullmatch(query)
        if not match or not _is_valid_key(key):
            return False
        expires_at, signature = match.groups()
        # Compared with every secret's, so that the time taken does not tell which one came close.
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
    """Neither a key nor a number holds a line end, so that no two pairs make the same text."""
    digest = _compute_hmac(secret, b"\n".join((_PURPOSE, key.encode(), expires_at.encode())))
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _derive_key(secret: bytes) -> bytes:
    """HKDF (RFC 5869) for one block: what signs links signs nothing else that the same secret protects."""
    return _compute_hmac(_compute_hmac(bytes(32), secret), _PURPOSE + b"\x01")


def _compute_hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()
