"""Books corrections of the ledger in Redis."""

from gateway.store.base import Retention
from gateway.store.ledger_totals import Correction, format_hour
from gateway.store.redis import codec, scripts
from gateway.store.redis.keys import PartitionKeys
from gateway.store.redis.redis_client import RedisClient


async def post_correction(
    client: RedisClient, keys: PartitionKeys, correction: Correction, retention: Retention, settings: bytes
) -> bool:
    """Books a correction. Returns False if it was booked before."""
    first = correction.entries[0]
    message = {
        "id": correction.id,
        "day": first.day,
        "has_hour": first.hour is not None,
        "entries": [codec.encode_entry(entry) for entry in correction.entries],
        "entries_expire_at": codec.compute_expiry(first.day, retention.ledger),
        "totals_expire_at": codec.compute_expiry(first.day, retention.totals),
    }
    script_keys = [
        keys.corrections(first.day),
        keys.ledger(first.day),
        keys.irregular_entries(first.day),
        keys.totals(first.day),
        keys.totals(format_hour(first.day, first.hour or 0)),
        keys.uncounted_days,
    ]
    return bool(await client.run_script(scripts.POST_CORRECTION, script_keys, settings, codec.pack(message)))
