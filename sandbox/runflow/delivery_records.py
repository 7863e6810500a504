"""Runflow's record of each callback that it sent."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from sandbox.callback_sender import CallbackDelivery
from sandbox.runflow.http_helpers import format_timestamp, generate_uuid7


@dataclass(slots=True)
class DeliveryRecord:
    """The record of one delivery. Its bytes never change, since the signature depends on them."""

    run_id: str
    delivery: CallbackDelivery
    secret_id: str | None
    is_automatic: bool
    id: str = field(default_factory=generate_uuid7)

    def to_json(self) -> dict[str, Any]:
        delivery = self.delivery
        last_attempt_at = delivery.attempts[-1].started_at if delivery.attempts else delivery.created_at
        state = "succeeded" if delivery.is_accepted else "failed" if delivery.is_finished else "pending"
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
            "max_attempts": len(delivery.retry_policy.delays_seconds) + 1,
            "next_attempt_at": None,
            "created_at": format_timestamp(delivery.created_at),
            "updated_at": format_timestamp(last_attempt_at),
            "completed_at": format_timestamp(last_attempt_at) if delivery.is_finished else None,
            "attempts": [
                {
                    "id": f"{self.id}-{number}",
                    "delivery_id": self.id,
                    "attempt_number": number,
                    "status_code": attempt.status,
                    "response_body": None,
                    "response_time_ms": round(attempt.duration_seconds * 1_000),
                    "error_message": attempt.error,
                    "created_at": format_timestamp(attempt.started_at),
                }
                for number, attempt in enumerate(delivery.attempts, 1)
            ],
        }
