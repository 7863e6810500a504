"""The store for replicas that share jobs: one Lua script per commit."""

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from time import time
from typing import Self

from gateway.jobs.budgets import make_owner
from gateway.jobs.commit import Commit, IdempotencyRecord, LedgerEntry, Milestone, list_delivery_ids
from gateway.jobs.job import Job
from gateway.store.audit import AuditReport
from gateway.store.base import (
    SIGNAL_TTL_SECONDS,
    ClaimedDelivery,
    ClaimedJob,
    CommitOutcome,
    IdempotencyMatch,
    Retention,
    StoreMisconfigured,
)
from gateway.store.decision_record_pages import DecisionRecordPage, StoredDecisionRecord
from gateway.store.inspection import Durability
from gateway.store.job_decoder import JobDecoder
from gateway.store.job_pages import ALL_JOBS, JobFilter, JobPage, JobPosition, PageBuilder
from gateway.store.job_watch import JobWatch, JobWatchers
from gateway.store.ledger_sums import LineSum, TotalsQuery
from gateway.store.ledger_totals import BudgetBalance, Correction, LedgerTotal, list_days
from gateway.store.partitions import PARTITIONS, team_partition
from gateway.store.redis import codec, decision_records, idempotency_lookup, ledger_sum_reader, redis_client, scripts
from gateway.store.redis.api_key_table import RedisApiKeys
from gateway.store.redis.change_listener import ChangeListener
from gateway.store.redis.correction_writer import post_correction
from gateway.store.redis.keys import AUDIT_CLAIM, SIGNALS, KeySpace, PartitionKeys
from gateway.store.redis.killed_replica_detector import KilledReplicaDetector, ReconnectionGrace, mark_replica_closed
from gateway.store.redis.lease_manager import RedisLeaseManager, gather_available
from gateway.store.redis.ledger_entries import delete_entries, list_entries
from gateway.store.redis.partition_auditor import PartitionAuditor
from gateway.store.redis.server_monitor import ServerMonitor
from gateway.store.redis.server_url import parse_server_url
from gateway.store.redis.statistics_reader import RedisStatistics
from gateway.store.redis.team_record_table import RedisTeamRecords
from gateway.task_supervisor import SupervisedTask, TaskSupervisor
from gateway.timeouts_and_intervals import StoreTiming

_ID_LENGTH = len("job_00") + 26


class RedisStore:
    """Stores jobs in Redis. `durability`: 'checked' checks the configuration of Redis, 'declared' trusts the operator
    where Redis does not show it. `wait_replicas`: how many replicas must have a commit before it is acknowledged.

    `clock` is for tests that move time; without it, the server's clock is used.
    """

    partitions: Sequence[int] = range(PARTITIONS)
    is_shared = True

    def __init__(  # noqa: PLR0913 - all but the address have a default
        self,
        url: str,
        *,
        replica_id: str | None = None,
        lease: float = 15.0,
        retention: Retention | None = None,
        durability: Durability = "checked",
        wait_replicas: int = 0,
        clock: Callable[[], float] | None = None,
        supervisor: TaskSupervisor | None = None,
        timing: StoreTiming = StoreTiming(),
    ) -> None:
        self._timing = timing
        self.replica_id = replica_id or secrets.token_hex(8)
        self._decoder = JobDecoder()
        self._monitor: ServerMonitor | None = None
        self._monitor_task: SupervisedTask | None = None
        self._supervisor = supervisor or TaskSupervisor()
        self._url = url
        self._lease = lease
        self.retention = retention or Retention()
        self._durability = durability
        self._wait_replicas = wait_replicas
        self._clock = clock
        self._key_space = KeySpace(range(PARTITIONS))
        self._watchers = JobWatchers()

    # --- opening and closing

    async def open(self) -> Self:
        self._server_url = parse_server_url(self._url)
        self._client = redis_client.RedisClient(
            await redis_client.connect(self._server_url, self._timing, redis_client.make_client_name(self.replica_id)),
            self._timing,
            self._wait_replicas,
        )
        self._cached_settings = self._encode_settings(None)
        self.api_keys = RedisApiKeys(self._client)
        self.team_records = RedisTeamRecords(self._client, lambda: self._script_settings)
        self._lease_manager = RedisLeaseManager(
            self._client, self._key_space, self._decoder, self.partitions, lambda: self._script_settings
        )
        self.statistics = RedisStatistics(
            self._client,
            self._key_space,
            self.partitions,
            lambda: self._script_settings,
            self._current_time,
            self.retention.totals,
        )
        try:
            self._monitor = ServerMonitor(self._client, self._durability, self._audit_partition)
            await self._monitor.check_once()
        except BaseException:
            await self._client.close()
            raise
        self._listener = ChangeListener(
            partial(redis_client.select_random_server, self._client.driver, self._server_url),
            self.replica_id,
            self._watchers,
            self._timing,
        )
        await self._listener.start(self._supervisor)
        self._killed_replica_detector = KilledReplicaDetector(
            self._client,
            self.replica_id,
            list_replicas=self.statistics.exchange_heartbeats,
            grace=ReconnectionGrace(
                self._client, self._server_url.kind, self._listener, self._timing.restart_grace_seconds
            ),
        )
        self._monitor_task = self._monitor.start(self._supervisor, self._timing.check_interval_seconds)
        return self

    async def close(self) -> None:
        if self._monitor_task is not None:
            await self._monitor_task.stop()
            await mark_replica_closed(self._client, self.replica_id)
            await self._listener.close()
            await self._client.close()

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*(self._monitor.warnings if self._monitor else ()), *self._decoder.warnings)

    # --- jobs

    async def commit(self, commit: Commit) -> CommitOutcome:
        keys = self._key_space[team_partition(commit.job.team)]
        is_new = commit.expected_version == 0
        if is_new and self._monitor is not None and self._monitor.misconfiguration is not None:
            raise StoreMisconfigured(str(self._monitor.misconfiguration))
        script = scripts.COMMIT_NEW_JOB if is_new else scripts.COMMIT_UPDATE
        payload, documents = codec.encode_commit(commit, self.retention), commit.documents.values()
        reply = await self._client.run_script(
            script, codec.commit_keys(commit, keys), payload, self._script_settings, *documents
        )
        return codec.decode_outcome(commit, reply)

    async def announce_job(self, job_id: str, timeout_seconds: float) -> None:
        await self._client.run_script(
            scripts.ANNOUNCE_JOB, [self._get_keys(job_id).retention], self._script_settings, job_id, timeout_seconds
        )

    async def find_by_idempotency(self, team: str, record: IdempotencyRecord) -> IdempotencyMatch | None:
        return await idempotency_lookup.find_match(
            self._client, self._get_record_key(team, record), record, self._script_settings
        )

    async def remove_caller(self, team: str, record: IdempotencyRecord) -> None:
        await idempotency_lookup.remove_caller(
            self._client, self._get_record_key(team, record), record, self._script_settings
        )

    def _get_record_key(self, team: str, record: IdempotencyRecord) -> str:
        return self._key_space[team_partition(team)].idempotency_record(team, record.key, record.is_body_key)

    async def load_job(self, job_id: str) -> Job | None:
        if not (keys := self._key_space.get_job_keys(job_id)):
            return None
        [encoded_job] = await self._client.read_fields(keys.job(job_id), "encoded_job")
        return self._decoder.decode(job_id, encoded_job) if encoded_job else None

    async def load_documents(self, job_id: str, *names: str) -> Mapping[str, bytes]:
        if not names or not (keys := self._key_space.get_job_keys(job_id)):
            return {}
        values = await self._client.read_fields(keys.job(job_id), *(f"document:{name}" for name in names))
        return {name: document for name, document in zip(names, values, strict=True) if document is not None}

    async def load_decision_record(self, job_id: str) -> StoredDecisionRecord | None:
        keys = self._key_space.get_job_keys(job_id)
        return await decision_records.load_decision_record(self._client, keys, job_id) if keys else None

    async def claim_jobs(self, limit: int = 100) -> tuple[ClaimedJob, ...]:
        return await self._lease_manager.claim_jobs(limit)

    async def renew_leases(self, leases: Mapping[str, int]) -> frozenset[str]:
        return await self._lease_manager.renew_leases(leases)

    async def expire_leases_of_killed_replicas(self) -> int:
        killed = await self._killed_replica_detector.find_killed()
        return await self._lease_manager.expire_leases(killed) if killed else 0

    async def release_job(self, job_id: str, fence: int, delay: float) -> bool:
        return await self._lease_manager.release_job(self._get_keys(job_id), job_id, fence, delay)

    async def _list_due(self, index_keys: Iterable[str], limit: int) -> list[str]:
        """Lists the due members of these indexes, one for each partition, soonest first."""
        keys = ([key] for key in index_keys)
        replies = chain.from_iterable(
            await gather_available(self._client.run_on_partitions(scripts.LIST_DUE, keys, self._script_settings, limit))
        )
        return [
            member for _, member in sorted(pair for reply in replies for pair in codec.decode_scores(reply))[:limit]
        ]

    def watch(self, job_id: str) -> JobWatch:
        return JobWatch(self._watchers, job_id)

    # --- webhooks

    async def claim_deliveries(self, limit: int = 20, lease: float = 60.0) -> tuple[ClaimedDelivery, ...]:
        outbox_keys = (self._key_space[partition].outbox for partition in self.partitions)
        claims = [self._claim_delivery(delivery_id, lease) for delivery_id in await self._list_due(outbox_keys, limit)]
        return tuple(claimed for claimed in await asyncio.gather(*claims) if claimed)

    async def _claim_delivery(self, delivery_id: str, lease: float) -> ClaimedDelivery | None:
        keys, token = self._get_keys(delivery_id), secrets.token_hex(8)
        arguments = (self._script_settings, delivery_id, token, lease)
        fields = await self._client.run_script(scripts.CLAIM_DELIVERY, [keys.outbox, keys.webhooks], *arguments)
        return (
            ClaimedDelivery(delivery=codec.decode_delivery(fields[0]), attempts=int(fields[1]))
            if fields and fields[0]
            else None
        )

    async def ack_delivery(self, delivery_id: str, job_id: str) -> None:
        keys = self._get_keys(job_id)
        await self._client.run_script(
            scripts.ACK_DELIVERY, [keys.outbox, keys.webhooks], self._script_settings, delivery_id
        )

    async def retry_delivery(self, delivery_id: str, job_id: str, delay: float) -> None:
        await self._client.run_script(
            scripts.RETRY_DELIVERY, [self._get_keys(job_id).outbox], self._script_settings, delivery_id, delay
        )

    # --- reading

    async def list_jobs(
        self, team: str, limit: int = 20, after: JobPosition | None = None, job_filter: JobFilter = ALL_JOBS
    ) -> JobPage:
        builder, keys = PageBuilder(limit, after, job_filter), self._key_space[team_partition(team)]
        lower_bound = f"[{codec.format_list_member(job_filter.created_since, '')}"
        while builder.page is None:
            position = builder.position
            upper_bound = f"({codec.format_list_member(position.created_at, position.job_id)}" if position else "+"
            bounds = (upper_bound, lower_bound, "LIMIT", 0, builder.batch_size)
            members = await self._client.execute("ZREVRANGEBYLEX", keys.team_jobs(team), *bounds)
            positions = [codec.parse_list_member(member) for member in members]
            jobs = await asyncio.gather(*(self._load_listed_job(position.job_id, keys) for position in positions))
            builder.add_batch(list(zip(positions, jobs, strict=True)))
        return builder.page

    async def _load_listed_job(self, job_id: str, keys: PartitionKeys) -> Job | None:
        encoded_job = await self._client.execute("HGET", keys.job(job_id), "encoded_job")
        return self._decoder.try_decode(job_id, encoded_job) if encoded_job else None

    async def list_milestones(self, job_id: str, after_number: int = 0) -> tuple[Milestone, ...]:
        if not (keys := self._key_space.get_job_keys(job_id)):
            return ()
        lines = await self._client.execute("LRANGE", keys.milestones(job_id), max(after_number, 0), -1)
        return codec.decode_milestones(lines)

    async def load_balances(self, team: str, *windows: str, key_id: str = "") -> Mapping[str, BudgetBalance]:
        keys, owner = self._key_space[team_partition(team)], make_owner(team, key_id)
        calls = [self._client.execute("HMGET", keys.budget(owner, window), "held", "spent") for window in windows]
        return {
            window: BudgetBalance(held=int(held or 0), spent=int(spent or 0))
            for window, (held, spent) in zip(windows, await asyncio.gather(*calls), strict=True)
        }

    async def list_ledger_entries(
        self, day: str, team: str | None = None, *, is_irregular: bool = False
    ) -> tuple[LedgerEntry, ...]:
        partitions = [self._key_space[partition] for partition in self._select_partitions(team)]
        return await list_entries(self._client, partitions, day, team, is_irregular=is_irregular)

    async def delete_ledger_entries(self, day: str, team: str) -> None:
        await delete_entries(self._client, self._key_space[team_partition(team)], day, team)

    async def list_day_totals(self, first_day: str, last_day: str, team: str | None = None) -> tuple[LedgerTotal, ...]:
        totals: list[LedgerTotal] = []
        for day in list_days(first_day, last_day):
            calls = [
                self._client.execute("HGETALL", self._key_space[partition].totals(day))
                for partition in self._select_partitions(team)
            ]
            totals += [total for fields in await asyncio.gather(*calls) for total in codec.decode_totals(day, fields)]
        return tuple(total for total in totals if team in (None, total.account.team))

    async def sum_totals(self, query: TotalsQuery) -> tuple[LineSum, ...]:
        partitions = [self._key_space[partition] for partition in self._select_partitions(query.team)]
        return await ledger_sum_reader.sum_totals(self._client, partitions, query)

    async def post_correction(self, correction: Correction) -> bool:
        keys = self._key_space[team_partition(correction.entries[0].team)]
        return await post_correction(self._client, keys, correction, self.retention, self._script_settings)

    async def list_decision_records(
        self, day: str, team: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> DecisionRecordPage:
        partitions = self._select_partitions(team)
        lister = decision_records.DecisionRecordLister(self._client, self._key_space, partitions)
        return await lister.list_page(day, team, limit, cursor)

    async def delete_decision_records(self, *job_ids: str) -> None:
        await decision_records.delete_decision_records(self._client, self._key_space, job_ids)

    # --- signals and maintenance

    async def publish_signal(self, name: str, value: bytes) -> None:
        await self._client.run_script(scripts.PUBLISH_SIGNAL, [SIGNALS], self._script_settings, name, value)

    async def read_signals(self) -> Mapping[str, bytes]:
        fields = await self._client.run_script(
            scripts.READ_SIGNALS, [SIGNALS], self._script_settings, SIGNAL_TTL_SECONDS
        )
        return {name.decode(): value for name, value in zip(fields[::2], fields[1::2], strict=True)}

    async def audit(self, partition: int, repair: bool = True) -> AuditReport:
        return await self._audit_partition(partition, repair)

    async def claim_audit(self, interval_seconds: float) -> bool:
        return bool(
            await self._client.run_script(scripts.CLAIM_AUDIT, [AUDIT_CLAIM], self._script_settings, interval_seconds)
        )

    async def list_jobs_to_clean_up(self, limit: int = 100) -> tuple[str, ...]:
        return tuple(
            await self._list_due((self._key_space[partition].retention for partition in self.partitions), limit)
        )

    async def delete_job(self, job_id: str) -> None:
        keys = self._get_keys(job_id)
        job = await self.load_job(job_id)
        jobs_key, member = (
            (keys.team_jobs(job.team), codec.format_list_member(job.created_at, job_id))
            if job
            else (keys.no_idempotency_record, "")
        )
        script_keys = [
            keys.job(job_id),
            keys.milestones(job_id),
            keys.retention,
            jobs_key,
            keys.outbox,
            keys.webhooks,
        ]
        await self._client.run_script(
            scripts.DELETE_JOB, script_keys, self._script_settings, job_id, member, *list_delivery_ids(job_id)
        )

    async def delete_expired(self) -> None:
        """Deletes admin events. All other data expires in Redis by itself."""
        await self.api_keys.delete_events_before(self._current_time() - self.retention.admin_events)

    # --- helpers

    async def _audit_partition(
        self, partition: int, repair: bool = True, extra_jobs: Collection[str] = ()
    ) -> AuditReport:
        auditor = PartitionAuditor(
            self._client, self.replica_id, self._key_space[partition], self.retention, self._decoder, self._timing
        )
        return await auditor.audit(self._script_settings, self._current_time(), repair, extra_jobs)

    def _current_time(self) -> float:
        return self._clock() if self._clock else time()

    @property
    def _script_settings(self) -> bytes:
        if self._clock is None:
            return self._cached_settings
        return self._encode_settings(self._clock())

    def _encode_settings(self, now: float | None) -> bytes:
        return codec.encode_settings(self.replica_id, self._lease, self.retention, self._client.is_single, now)

    def _get_keys(self, job_id: str) -> PartitionKeys:
        if not (keys := self._key_space.get_job_keys(job_id[:_ID_LENGTH])):
            raise ValueError(f"Invalid job id: {job_id!r}")
        return keys

    def _select_partitions(self, team: str | None) -> Sequence[int]:
        return self.partitions if team is None else (team_partition(team),)
