"""The record that Runflow keeps of each callback it sent."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from sandbox.callbacks import Delivery
from sandbox.runflow_wire import stamp, uuid7


@dataclass(slots=True)
class SentCallback:
    """The record of one delivery; the bytes are frozen, since the signature depends on them."""

    run_id: str
    delivery: Delivery
    secret_id: str | None
    is_automatic: bool
    id: str = field(default_factory=uuid7)

    def record(self) -> dict[str, Any]:
        delivery = self.delivery
        last = delivery.attempts[-1].at if delivery.attempts else delivery.created
        state = "succeeded" if delivery.accepted else "failed" if delivery.over else "pending"
        return {
            "id": self.id,
            "run_id": self.run_id,
            "callback_url": delivery.url,
            "payload_bytes": delivery.body.decode(),
            "payload": msgspec.json.decode(delivery.body),
            "signing_secret_id": self.secret_id,
            "is_automatic": self.is_automatic,
            "status_code": state,
            "failure_reason_code": None,
            "failure_detail": None,
            "attempt_count": len(delivery.attempts),
            "max_attempts": len(delivery.policy.delays) + 1,
            "next_attempt_at": None,
            "created_at": stamp(delivery.created),
            "updated_at": stamp(last),
            "completed_at": stamp(last) if delivery.over else None,
            "attempts": [
                {
                    "id": f"{self.id}-{number}",
                    "delivery_id": self.id,
                    "attempt_number": number,
                    "status_code": attempt.status,
                    "response_body": None,
                    "response_time_ms": round(attempt.took * 1_000),
                    "error_message": attempt.error,
                    "created_at": stamp(attempt.at),
                }
                for number, attempt in enumerate(delivery.attempts, 1)
            ],
        }
