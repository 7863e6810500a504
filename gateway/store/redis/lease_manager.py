"""Claims, renews and releases jobs in Redis."""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from math import isfinite
from typing import Any

from msgspec import Struct

from gateway.store.base import ClaimedJob, StoreUnavailable
from gateway.store.job_decoder import JobDecoder
from gateway.store.redis import codec, scripts
from gateway.store.redis.keys import KeySpace, PartitionKeys
from gateway.store.redis.redis_client import RedisClient

# The number of suspects to list of a partition. One of them can be claimed, unless only a newer version can read them.
MAX_SUSPECTS = 10


class RedisLeaseManager(Struct, frozen=True):
    """Claims, renews and releases jobs. `get_settings` returns the settings of scripts, with the replica id and the
    lease."""

    client: RedisClient
    key_space: KeySpace
    decoder: JobDecoder
    partitions: Sequence[int]
    get_settings: Callable[[], bytes]

    async def claim_jobs(self, limit: int) -> tuple[ClaimedJob, ...]:
        batch, suspects = await self._list_claimable(limit)
        claimed = await asyncio.gather(*(self._claim_job(job_id) for job_id in batch))
        return tuple(claimed_job for claimed_job in (*claimed, await self._claim_suspect(suspects)) if claimed_job)

    async def _list_claimable(self, limit: int) -> tuple[list[str], list[str]]:
        """Lists claimable jobs, soonest first: those that may be claimed together, and suspects, of which only one is
        claimed."""
        keys = ([self.key_space[partition].due] for partition in self.partitions)
        replies = await gather_available(
            self.client.run_on_partitions(scripts.LIST_CLAIMABLE, keys, self.get_settings(), limit, MAX_SUSPECTS)
        )
        batch, suspects = (
            [pair for reply in chain.from_iterable(replies) for pair in codec.decode_scores(reply[index])]
            for index in (0, 1)
        )
        return [job_id for _, job_id in sorted(batch)[:limit]], [job_id for _, job_id in sorted(suspects)]

    async def _claim_suspect(self, job_ids: Sequence[str]) -> ClaimedJob | None:
        """Claims the first suspect that is available: others may be claimed already, or unreadable for this version."""
        for job_id in job_ids:
            if claimed := await self._claim_job(job_id):
                return claimed
        return None

    async def _claim_job(self, job_id: str) -> ClaimedJob | None:
        """Claims a job. Returns None if it is not available.

        Decodes the job first: a job that only a newer version can read is left to replicas of that version.
        """
        if not (keys := self.key_space.get_job_keys(job_id)):
            return None
        encoded_job = await self.client.execute("HGET", keys.job(job_id), "encoded_job")
        if not encoded_job or (current_job := self.decoder.try_decode(job_id, encoded_job)) is None:
            return None
        token = secrets.token_hex(8)
        record_key = (
            keys.idempotency_record(current_job.team, current_job.body_key, is_body_key=True)
            if current_job.body_key
            else keys.no_idempotency_record
        )
        fields = await self.client.run_script(
            scripts.CLAIM_JOB, [keys.job(job_id), keys.due, record_key], self.get_settings(), job_id, token
        )
        if not fields:
            return None
        encoded_job, fence, reclaims, max_owned_seconds = fields
        if (claimed_job := self.decoder.try_decode(job_id, encoded_job)) is None:
            return None
        return ClaimedJob(
            job=claimed_job, fence=int(fence), reclaims=int(reclaims), max_owned_seconds=float(max_owned_seconds or 0)
        )

    async def renew_leases(self, leases: Mapping[str, int]) -> frozenset[str]:
        by_partition: defaultdict[PartitionKeys | None, list[str]] = defaultdict(list)
        for job_id in leases:
            by_partition[self.key_space.get_job_keys(job_id)].append(job_id)
        unknown_ids = by_partition.pop(None, [])
        replies = await gather_available(
            self._renew_partition(keys, {job_id: leases[job_id] for job_id in job_ids})
            for keys, job_ids in by_partition.items()
            if keys
        )
        return frozenset([*unknown_ids, *(job_id for lost_ids in replies for job_id in lost_ids)])

    async def _renew_partition(self, keys: PartitionKeys, leases: Mapping[str, int]) -> list[str]:
        script_keys = [keys.due, *(keys.job(job_id) for job_id in leases)]
        arguments = (argument for job_id, fence in leases.items() for argument in (job_id, fence))
        return [
            job_id.decode()
            for job_id in await self.client.run_script(
                scripts.RENEW_LEASES, script_keys, self.get_settings(), *arguments
            )
        ]

    async def expire_leases(self, replica_ids: Collection[str]) -> int:
        """Ends the leases of these replicas, except those of suspects. Returns how many ended."""
        all_keys = (self.key_space[partition] for partition in self.partitions)
        return sum(
            await gather_available(
                self.client.run_script(
                    scripts.EXPIRE_LEASES, [keys.due], self.get_settings(), keys.prefix, *sorted(replica_ids)
                )
                for keys in all_keys
            )
        )

    async def release_job(self, keys: PartitionKeys, job_id: str, fence: int, delay: float) -> bool:
        if not isfinite(delay):
            raise ValueError(f"Invalid delay: {delay}. It must be finite.")
        arguments = (self.get_settings(), job_id, fence, delay)
        return bool(await self.client.run_script(scripts.RELEASE_JOB, [keys.job(job_id), keys.due], *arguments))


async def gather_available(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """Returns the replies of all partitions that can be reached. Raises StoreUnavailable if none can be."""
    replies = await asyncio.gather(*calls, return_exceptions=True)
    errors = [reply for reply in replies if isinstance(reply, BaseException)]
    unexpected = [error for error in errors if not isinstance(error, StoreUnavailable)]
    if unexpected or (errors and len(errors) == len(replies)):
        raise (unexpected or errors)[0]
    return [reply for reply in replies if not isinstance(reply, BaseException)]
