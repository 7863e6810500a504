"""Where sellers call back to, and what such a call is worth: only a hint. What counts is the answer to our question."""

import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256

from gateway.catalogue import Seller

PATH = "/callbacks"
DIGITS = 32


class CallbackAddresses:
    """An address for each attempt, which nobody can make up. The first secret signs, all are believed."""

    def __init__(self, public_url: str, secrets: Sequence[bytes]) -> None:
        self._base = public_url.rstrip("/") + PATH
        self._secrets = secrets

    def of(self, adapter: str, job: str, attempt: int) -> str:
        return f"{self._base}/{adapter}/{job}/{attempt}/{_seal(self._secrets[0], adapter, job, attempt)}"

    def is_ours(self, adapter: str, job: str, attempt: int, seal: str) -> bool:
        seals = [_seal(secret, adapter, job, attempt) for secret in self._secrets]
        return any([hmac.compare_digest(one.encode(), seal.encode()) for one in seals])


def is_genuine(seller: Seller, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether the seller signed it. A seller that signs nothing is known by the address alone."""
    callback = seller.adapter.callback
    if callback is None:
        return False
    secrets = [secret.reveal() for secret in seller.account.callback_secrets]
    return callback.verify(headers, body, secrets, now)


def _seal(secret: bytes, adapter: str, job: str, attempt: int) -> str:
    text = f"callback\n{adapter}\n{job}\n{attempt}".encode()
    return hmac.new(secret, text, sha256).hexdigest()[:DIGITS]
