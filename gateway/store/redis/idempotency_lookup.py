"""What requests have become before, in Redis: found by a caller's key, or by the body."""

from typing import Any

from gateway.jobs.commit import IdempotencyRecord
from gateway.store.base import DuplicateRequest, IdempotencyMatch, needs_lookup
from gateway.store.redis import codec, scripts
from gateway.store.redis.redis_client import RedisClient


async def find_match(
    client: RedisClient, key: str, record: IdempotencyRecord, settings: Any
) -> IdempotencyMatch | None:
    """What lies under the record's key; a repetition becomes a caller of that."""
    if not needs_lookup(record):
        return None
    if not record.is_body_key:
        return codec.decode_match(record, await client.execute("HMGET", key, "fingerprint", "job"))
    job_id = await client.run_script(scripts.ATTACH_CALLER, [key], settings, codec.pack(codec.encode_record(record)))
    return DuplicateRequest(job_id.decode()) if job_id else None


async def remove_caller(client: RedisClient, key: str, record: IdempotencyRecord, settings: Any) -> None:
    """From whichever job of the body it waited for."""
    if record.is_body_key:
        await client.run_script(scripts.REMOVE_CALLER, [key], settings, record.caller_id)
