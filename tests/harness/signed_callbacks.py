"""Signs callbacks as RunAPI does."""

import time

from sandbox.runapi.callbacks import CALLBACK_SECRET, compute_signature


def sign_runapi_callback(
    body: bytes, callback_id: str = "msg_1", secret: str = CALLBACK_SECRET, sent_at: float | None = None
) -> dict[str, str]:
    """Returns the headers of a callback that was sent now, or at `sent_at`."""
    timestamp = str(int(time.time() if sent_at is None else sent_at))
    signature = compute_signature(secret, callback_id, timestamp, body)
    return {"x-callback-id": callback_id, "x-callback-timestamp": timestamp, "x-callback-signature": signature}
