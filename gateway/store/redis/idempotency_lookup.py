"""Finds the job of a repeated request in Redis, by the client's idempotency key or by its body."""

from typing import Any

from gateway.jobs.commit import IdempotencyRecord
from gateway.store.base import DuplicateRequest, IdempotencyMatch, needs_lookup
from gateway.store.redis import codec, scripts
from gateway.store.redis.redis_client import RedisClient


async def find_match(
    client: RedisClient, key: str, record: IdempotencyRecord, settings: Any
) -> IdempotencyMatch | None:
    """Returns the job that the request belongs to, or None. A retry becomes a caller of that job."""
    if not needs_lookup(record):
        return None
    if not record.is_body_key:
        return codec.decode_match(record, await client.execute("HMGET", key, "fingerprint", "job_id"))
    job_id = await client.run_script(scripts.ATTACH_CALLER, [key], settings, codec.pack(codec.encode_record(record)))
    return DuplicateRequest(job_id.decode()) if job_id else None


async def remove_caller(client: RedisClient, key: str, record: IdempotencyRecord, settings: Any) -> None:
    """Removes the caller of this request from the job for which it waited, which may be any job with its body."""
    if record.is_body_key:
        await client.run_script(scripts.REMOVE_CALLER, [key], settings, record.caller_id)
