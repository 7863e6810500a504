"""Builds and verifies the signed callback URL of each attempt."""

import hmac
from collections.abc import Sequence
from hashlib import sha256

CALLBACKS_PATH = "/callbacks"
SIGNATURE_DIGITS = 32


class CallbackUrls:
    """Signed callback URLs, one per attempt. The first secret signs; signatures of all secrets are accepted."""

    def __init__(self, base_url: str, secrets: Sequence[bytes]) -> None:
        self._base_url = base_url.rstrip("/") + CALLBACKS_PATH
        self._secrets = secrets

    def build_url(self, adapter: str, job_id: str, attempt_number: int) -> str:
        signature = _compute_signature(self._secrets[0], adapter, job_id, attempt_number)
        return f"{self._base_url}/{adapter}/{job_id}/{attempt_number}/{signature}"

    def verify(self, adapter: str, job_id: str, attempt_number: int, signature: str) -> bool:
        expected_signatures = [_compute_signature(secret, adapter, job_id, attempt_number) for secret in self._secrets]
        return any([hmac.compare_digest(expected.encode(), signature.encode()) for expected in expected_signatures])


def _compute_signature(secret: bytes, adapter: str, job_id: str, attempt_number: int) -> str:
    text = f"callback\n{adapter}\n{job_id}\n{attempt_number}".encode()
    return hmac.new(secret, text, sha256).hexdigest()[:SIGNATURE_DIGITS]
