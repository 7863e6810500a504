"""Signed addresses of delivered pictures: who holds one may fetch that picture until it expires. Pure."""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence

from gateway.assets.keys import NotAKey, require_key

PATH = "/files/"
_PURPOSE = b"image-gateway: links to delivered pictures, 1"
# Exactly as we write it: no other order, spelling, doubled or further parameter is a link of ours.
_QUERY = re.compile(r"exp=(0|[1-9]\d{0,11})&sig=([A-Za-z0-9_-]{43})", re.ASCII)
_LATEST = 10**12 - 1


class Links:
    """The first secret signs; all are accepted, so that links live on while one secret replaces another."""

    def __init__(self, secrets: Sequence[bytes], base: str) -> None:
        if not secrets or not all(secrets):
            raise ValueError("links need at least one secret, and none may be empty")
        self._keys = tuple(_derived(secret) for secret in secrets)
        self._base = base.rstrip("/") + PATH

    def sign(self, key: str, expires: int) -> str:
        """The address of this picture, good until that second."""
        require_key(key)
        if not 0 <= expires <= _LATEST:
            raise ValueError("a link expires at a second between 1970 and the year 33658")
        return f"{self._base}{key}?exp={expires}&sig={_signature(self._keys[0], key, str(expires))}"

    def check(self, key: str, query: str, now: float) -> bool:
        """Whether a link with this path and this raw query string was signed by us, and has not expired."""
        match = _QUERY.fullmatch(query)
        if not match or not _is_key(key):
            return False
        expires, given = match.groups()
        # Compared with every secret's, so that the time taken does not tell which one came close.
        holds = any([hmac.compare_digest(given, _signature(secret, key, expires)) for secret in self._keys])
        return holds and now < int(expires)


def _is_key(key: str) -> bool:
    try:
        require_key(key)
    except NotAKey:
        return False
    return True


def _signature(secret: bytes, key: str, expires: str) -> str:
    """Neither a key nor a number holds a line end, so that no two pairs make the same text."""
    digest = _hmac(secret, b"\n".join((_PURPOSE, key.encode(), expires.encode())))
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _derived(secret: bytes) -> bytes:
    """HKDF (RFC 5869) for one block: what signs links signs nothing else that the same secret protects."""
    return _hmac(_hmac(bytes(32), secret), _PURPOSE + b"\x01")


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()
