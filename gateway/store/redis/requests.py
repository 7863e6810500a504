"""What requests have become before, in Redis: found by a caller's key, or by the body."""

from typing import Any

from gateway.jobs.commit import IdempotencyRecord
from gateway.store.base import Known, Repeated, looks_back
from gateway.store.redis import scripts, wire
from gateway.store.redis.link import Link


async def find_job(link: Link, key: str, record: IdempotencyRecord, settings: Any) -> Repeated | None:
    """What lies under the record's key; a repetition becomes a caller of that."""
    if not looks_back(record):
        return None
    if not record.soft:
        return wire.recalled_of(record, await link.command("HMGET", key, "fingerprint", "job"))
    job = await link.script(scripts.ATTACH, [key], settings, wire.pack(wire.record_message(record)))
    return Known(job.decode()) if job else None


async def remove_caller(link: Link, key: str, record: IdempotencyRecord, settings: Any) -> None:
    """From whichever job of the body it waited for."""
    if record.soft:
        await link.script(scripts.LEAVE, [key], settings, record.caller)
