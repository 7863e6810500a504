"""Whose a job is, and until when."""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from msgspec import Struct

from gateway.store.base import Claimed, StoreUnavailable
from gateway.store.redis import scripts, wire
from gateway.store.redis.keys import AllKeys, Keys
from gateway.store.redis.link import Link
from gateway.store.saved_jobs import SavedJobs

# Among so many of a partition one can be claimed, unless all are for a newer version.
MOST_SUSPECTS = 10


class Leases(Struct, frozen=True):
    """In whose name jobs are claimed, and for how long, stands in `settings`."""

    link: Link
    keys: AllKeys
    saved: SavedJobs
    partitions: Sequence[int]
    settings: Callable[[], bytes]

    async def claim(self, most: int) -> tuple[Claimed, ...]:
        together, suspects = await self._claimable(most)
        claimed = await asyncio.gather(*(self._claim(job) for job in together))
        return tuple(one for one in (*claimed, await self._claim_one(suspects)) if one)

    async def _claimable(self, most: int) -> tuple[list[str], list[str]]:
        """What may be claimed together, and the suspects, of which one is; soonest first."""
        keys = (self.keys[partition] for partition in self.partitions)
        answers = await answered(
            self.link.script(scripts.CLAIMABLE, [one.due], self.settings(), one.prefix, most, MOST_SUSPECTS)
            for one in keys
        )
        together, suspects = ([pair for answer in answers for pair in wire.due_of(answer[list_])] for list_ in (0, 1))
        return [name for _, name in sorted(together)[:most]], [name for _, name in sorted(suspects)]

    async def _claim_one(self, jobs: Sequence[str]) -> Claimed | None:
        """The first of them that can be: others may be gone by now, or only a newer version can read them."""
        for job in jobs:
            if claimed := await self._claim(job):
                return claimed
        return None

    async def _claim(self, job: str) -> Claimed | None:
        """Looked at before it is taken: what only a newer version can read is left to that."""
        if not (keys := self.keys.of_job(job)):
            return None
        blob = await self.link.command("HGET", keys.job(job), "blob")
        if not blob or (known := self.saved.try_to_read(job, blob)) is None:
            return None
        token = secrets.token_hex(8)
        body = keys.record(known.team, known.soft_key, soft=True) if known.soft_key else keys.no_record
        found = await self.link.script(scripts.CLAIM, [keys.job(job), keys.due, body], self.settings(), job, token)
        if not found:
            return None
        blob, fence, rescues, longest = found
        if (saved := self.saved.try_to_read(job, blob)) is None:
            return None
        return Claimed(job=saved, fence=int(fence), rescues=int(rescues), longest=float(longest or 0))

    async def beat(self, leases: Mapping[str, int]) -> frozenset[str]:
        by_partition: defaultdict[Keys | None, list[str]] = defaultdict(list)
        for job in leases:
            by_partition[self.keys.of_job(job)].append(job)
        strange = by_partition.pop(None, [])
        answers = await answered(
            self._beat(keys, {job: leases[job] for job in jobs}) for keys, jobs in by_partition.items() if keys
        )
        return frozenset([*strange, *(job for lost in answers for job in lost)])

    async def _beat(self, keys: Keys, leases: Mapping[str, int]) -> list[str]:
        names = [keys.due, *(keys.job(job) for job in leases)]
        pairs = (word for job, fence in leases.items() for word in (job, fence))
        return [job.decode() for job in await self.link.script(scripts.BEAT, names, self.settings(), *pairs)]

    async def snooze(self, keys: Keys, job: str, fence: int, seconds: float) -> bool:
        if not isfinite(seconds):
            raise ValueError("a job cannot be put off for that long")
        asked = (self.settings(), job, fence, seconds)
        return bool(await self.link.script(scripts.SNOOZE, [keys.job(job), keys.due], *asked))


async def answered(asked: Iterable[Awaitable[Any]]) -> list[Any]:
    """The answers of all partitions that give one; that some are away is an error only if all are."""
    answers = await asyncio.gather(*asked, return_exceptions=True)
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    unexpected = [error for error in failed if not isinstance(error, StoreUnavailable)]
    if unexpected or (failed and len(failed) == len(answers)):
        raise (unexpected or failed)[0]
    return [answer for answer in answers if not isinstance(answer, BaseException)]
