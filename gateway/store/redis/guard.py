"""Sees to it that Redis is, and stays, what jobs can be trusted to: at boot, and for as long as we run."""

from collections import defaultdict
from collections.abc import Collection
from typing import Protocol

from gateway.store.auditing import Findings
from gateway.store.base import StoreError, StoreUnavailable, StoreUnfit
from gateway.store.partitions import PARTITIONS, partition_of_job
from gateway.store.redis import boot
from gateway.store.redis.keys import JOBS, AllKeys
from gateway.store.redis.link import Link
from gateway.supervision import SupervisedTask, Supervisor

GUARD_SECONDS = 5.0


class Audit(Protocol):
    async def __call__(self, partition: int, repair: bool = True, also: Collection[str] = ()) -> Findings: ...


class Guard:
    """`unfit`: why no new job may be trusted to it at the moment."""

    def __init__(self, link: Link, durability: boot.Durability, audit: Audit) -> None:
        self._link = link
        self._durability = durability
        self._audit = audit
        self._keys = AllKeys(range(PARTITIONS))
        self._found: tuple[str, ...] = ()
        self.unfit: StoreUnfit | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        return (str(self.unfit), *self._found) if self.unfit else self._found

    async def look(self) -> None:
        """StoreUnfit if jobs would be lost. What a restart may have left half done is mended."""
        self._found = await boot.check(self._link, self._durability)
        await boot.settle_restart(self._link, self._durability, self._audit_all)

    def start(self, supervisor: Supervisor) -> SupervisedTask:
        return supervisor.run_every("store.guard", GUARD_SECONDS, self._look_again)

    async def _look_again(self) -> None:
        """A Redis that is started anew while we run, or configured otherwise, is treated as at boot."""
        try:
            await self.look()
            self.unfit = None
        except StoreUnfit as unfit:
            self.unfit = unfit

    async def _audit_all(self) -> None:
        """Also jobs that nothing names: of a transition that was torn in two, the job comes first."""
        jobs: defaultdict[int, set[str]] = defaultdict(set)
        for key in await self._link.names(JOBS):
            name = key.rpartition(":")[2]
            if (partition := partition_of_job(name)) is not None:
                jobs[partition].add(name)
        for partition in range(PARTITIONS):
            keys = self._keys[partition]
            named = await self._link.command("ZRANGE", keys.kept, 0, -1)
            named = [*named, *await self._link.command("SMEMBERS", keys.open)]
            try:
                await self._audit(partition, also=jobs[partition] - {name.decode() for name in named})
            except StoreUnavailable:
                raise
            except StoreError:
                # A job or entry that only a newer version can read: one of those must audit this partition.
                continue
