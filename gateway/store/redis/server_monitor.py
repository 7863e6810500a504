"""Checks periodically that Redis keeps jobs safe. While it does not, no new job is accepted."""

from collections import defaultdict
from collections.abc import Collection
from functools import partial
from typing import Protocol

from gateway.events import ErrorReported, EventSink
from gateway.store.audit import AuditReport
from gateway.store.base import StoreError, StoreMisconfigured, StoreUnavailable
from gateway.store.inspection import Durability
from gateway.store.partitions import PARTITIONS, job_partition
from gateway.store.redis import server_checks
from gateway.store.redis.keys import JOB_PATTERN, KeySpace
from gateway.store.redis.redis_client import RedisClient
from gateway.task_supervisor import SupervisedTask, TaskSupervisor


class AuditCallback(Protocol):
    async def __call__(self, partition: int, repair: bool = True, extra_jobs: Collection[str] = ()) -> AuditReport: ...


class ServerMonitor:
    """Checks the servers. `misconfiguration`: why new jobs are refused at the moment."""

    def __init__(self, client: RedisClient, durability: Durability, audit_partition: AuditCallback) -> None:
        self._client = client
        self._durability = durability
        self._audit_partition = audit_partition
        self._key_space = KeySpace(range(PARTITIONS))
        self._warnings: tuple[str, ...] = ()
        self.misconfiguration: StoreMisconfigured | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        return (str(self.misconfiguration), *self._warnings) if self.misconfiguration else self._warnings

    async def check_once(self) -> None:
        """Checks the servers. Raises StoreMisconfigured if jobs would be lost. Repairs transitions that a restart may
        have left half written."""
        self._warnings = await server_checks.check_servers(self._client, self._durability)
        await server_checks.recover_from_restart(self._client, self._durability, self._audit_all_partitions)

    def start(self, supervisor: TaskSupervisor, interval_seconds: float) -> SupervisedTask:
        check = partial(self._check_again, supervisor.emit)
        return supervisor.run_every("store.server_monitor", interval_seconds, check)

    async def _check_again(self, emit: EventSink) -> None:
        """Repeats the startup checks after a restart or a changed configuration of Redis. Reports new warnings."""
        known_warnings = self.warnings
        try:
            await self.check_once()
            self.misconfiguration = None
        except StoreMisconfigured as error:
            self.misconfiguration = error
        for warning in self.warnings:
            if warning not in known_warnings:
                emit(ErrorReported(component="store", message=warning))

    async def _audit_all_partitions(self) -> None:
        """Audits all partitions. Includes jobs that are in no list: a restart may have cut off a transition after it
        wrote the job."""
        jobs: defaultdict[int, set[str]] = defaultdict(set)
        async for key in self._client.scan_keys(JOB_PATTERN):
            job_id = key.rpartition(":")[2]
            if (partition := job_partition(job_id)) is not None:
                jobs[partition].add(job_id)
        for partition in range(PARTITIONS):
            keys = self._key_space[partition]
            listed = await self._client.execute("ZRANGE", keys.retention, 0, -1)
            listed = [*listed, *await self._client.execute("SMEMBERS", keys.open)]
            try:
                listed_jobs = {job_id.decode() for job_id in listed}
                await self._audit_partition(partition, extra_jobs=jobs[partition] - listed_jobs)
            except StoreUnavailable:
                raise
            except StoreError:
                # Only a newer version can read a job or entry here, so a gateway of that version must audit it.
                continue
