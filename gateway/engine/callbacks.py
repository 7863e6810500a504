"""Where sellers call back to: an address for each attempt."""

import hmac
from collections.abc import Sequence
from hashlib import sha256

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


def _seal(secret: bytes, adapter: str, job: str, attempt: int) -> str:
    text = f"callback\n{adapter}\n{job}\n{attempt}".encode()
    return hmac.new(secret, text, sha256).hexdigest()[:DIGITS]
