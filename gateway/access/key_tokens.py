"""The form of API keys, and their digests. Pure."""

import hashlib
import hmac
import re
from base64 import b32encode
from collections.abc import Callable, Sequence

from msgspec import Struct

ID_LENGTH, SECRET_BYTES = 10, 32
_TOKEN = re.compile(rf"igw_([a-z2-7]{{{ID_LENGTH}}})_[a-z2-7]{{52}}", re.ASCII)
_PURPOSE = b"image-gateway: digests of API keys, 1"


class NewToken(Struct, frozen=True):
    """A new API key as its client sends it: `igw_<id>_<secret>`."""

    id: str
    text: str

    def __repr__(self) -> str:
        return f"NewToken({self.id!r}, …)"


def make_token(draw_bytes: Callable[[int], bytes]) -> NewToken:
    """Makes a key of 50 random bits of id and 256 of secret."""
    key_id = _encode_base32(draw_bytes(7))[:ID_LENGTH]
    return NewToken(key_id, f"igw_{key_id}_{_encode_base32(draw_bytes(SECRET_BYTES))}")


def is_token(text: str) -> bool:
    """Returns whether the text has the form of an API key of the store."""
    return _TOKEN.fullmatch(text) is not None


def _encode_base32(data: bytes) -> str:
    return b32encode(data).decode().lower().rstrip("=")


class TokenDigester:
    """Computes keyed digests of API keys. The first secret makes digests; all are accepted, so that secrets can be
    rotated.

    Without the secret, a stolen store reveals no key and no digest can be added that is valid.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if not secrets or not all(secrets):
            raise ValueError("digests of API keys need at least one secret, and none may be empty")
        self._keys = tuple(_derive_key(secret) for secret in secrets)

    def compute_digest(self, token: str) -> str:
        return hmac.digest(self._keys[0], token.encode(), "sha256").hex()

    def compute_all_digests(self, token: str) -> tuple[str, ...]:
        """Returns the digest with each secret, that of the first secret first."""
        return tuple([hmac.digest(key, token.encode(), "sha256").hex() for key in self._keys])


def _derive_key(secret: bytes) -> bytes:
    """Derives a key by HKDF (RFC 5869), one block, so that digests are valid for no other purpose."""
    pseudorandom_key = hmac.digest(bytes(hashlib.sha256().digest_size), secret, "sha256")
    return hmac.digest(pseudorandom_key, _PURPOSE + b"\x01", "sha256")
