"""The headers of a webhook, by Standard Webhooks: its id, the time of the attempt, and a signature with each secret."""

import base64
import hmac
from collections.abc import Iterable

from gateway.config.signing_secrets import decode_signing_secret
from gateway.config.value_types import Secret


def build_signed_headers(delivery_id: str, at: float, body: bytes, secrets: Iterable[Secret]) -> dict[str, str]:
    """Builds the headers. Receivers accept a webhook if any of its signatures is made with their secret."""
    timestamp = str(int(at))
    content = b".".join((delivery_id.encode(), timestamp.encode(), body))
    keys = (decode_signing_secret(secret) for secret in secrets)
    signatures = (base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys if key is not None)
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
