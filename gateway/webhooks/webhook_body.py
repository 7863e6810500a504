"""The body of a webhook: an event in the form of Standard Webhooks, with the fields that OpenAI's webhooks have."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.webhooks.webhook_records import WebhookRecord

JOB_EVENT_PREFIX = "job."


def build_body(record: WebhookRecord, data: Mapping[str, Any]) -> bytes:
    moment = datetime.fromtimestamp(int(record.created_at), UTC)
    event = {
        "id": record.id,
        "object": "event",
        "type": record.event,
        "created_at": int(record.created_at),
        "timestamp": moment.isoformat().replace("+00:00", "Z"),
        "data": data,
    }
    return msgspec.json.encode(event)


def build_thin_data(record: WebhookRecord) -> dict[str, Any]:
    """Builds the data of a thin webhook, which needs no job: its receiver gets the job with the id. An event that is
    not of a job has its data in the record."""
    if record.data is not None:
        return record.data
    if not record.job:
        return {"id": record.id, "object": record.event}
    return {"id": record.job, "object": "job", "status": record.event.removeprefix(JOB_EVENT_PREFIX)}
