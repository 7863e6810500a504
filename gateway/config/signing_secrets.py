"""Signing secrets of webhooks, in the form of Standard Webhooks: whsec_ and base64."""

import base64
import binascii

from gateway.config.value_types import Secret

SECRET_PREFIX = "whsec_"  # noqa: S105 - of every secret
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64


def decode_signing_secret(secret: Secret) -> bytes | None:
    """Returns the key of the secret, or None if it is not a signing secret."""
    text = secret.reveal()
    if not text.startswith(SECRET_PREFIX):
        return None
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES else None
