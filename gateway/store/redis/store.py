"""Jobs in Redis, for replicas that share them."""

import asyncio
import builtins
import contextlib
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from time import time
from typing import Self

from gateway.jobs.commit import Commit, IdempotencyRecord, LedgerEntry, Milestone
from gateway.jobs.job import Job
from gateway.store.auditing import Findings
from gateway.store.base import Claimed, Outcome, Outgoing, Page, Repeated, Retention, StoreUnavailable
from gateway.store.books import Balance, Total, days_between
from gateway.store.partitions import PARTITIONS, partition_of
from gateway.store.redis import boot, link, requests, scripts, wire
from gateway.store.redis.audit import Auditor
from gateway.store.redis.guard import Guard
from gateway.store.redis.hearing import Hearing
from gateway.store.redis.keys import CLOSED, SHARED, AllKeys, Keys
from gateway.store.redis.leases import Leases, answered
from gateway.store.saved_jobs import SavedJobs
from gateway.store.watching import Watch, Watches
from gateway.supervision import SupervisedTask, Supervisor

SHARED_SECONDS = 60.0
# Longer than jobs run that its callers may have been told of.
CLOSED_SECONDS = 86_400
_CURSOR = re.compile(r"\d{10}\.\d{6}:job_[0-9a-z]{28}", re.ASCII)
_ID_LENGTH = len("job_00") + 26


class RedisStore:
    """`durability`: 'checked' asks Redis how it is configured, 'declared' believes the operator of one that hides it.

    `clock` is for tests that move time; without it the server's own is used.
    """

    partitions: Sequence[int] = range(PARTITIONS)

    def __init__(  # noqa: PLR0913 - all but the address have a default
        self,
        url: str,
        *,
        owner: str | None = None,
        lease: float = 15.0,
        retention: Retention | None = None,
        durability: boot.Durability = "checked",
        clock: Callable[[], float] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.owner = owner or secrets.token_hex(8)
        self._saved = SavedJobs()
        self._guard: Guard | None = None
        self._guarding: SupervisedTask | None = None
        self._supervisor = supervisor or Supervisor()
        self._url = url
        self._lease = lease
        self._retention = retention or Retention()
        self._durability = durability
        self._clock = clock
        self._keys = AllKeys(range(PARTITIONS))
        self._watches = Watches()

    # --- opening and closing

    async def open(self) -> Self:
        self._link = link.Link(await link.connect(self._url))
        self._fixed_settings = self._settings_at(None)
        self._leases = Leases(self._link, self._keys, self._saved, self.partitions, lambda: self._settings)
        try:
            self._guard = Guard(self._link, self._durability, self._auditor)
            await self._guard.look()
        except BaseException:
            await self._link.close()
            raise
        self._hearing = Hearing(self._some_server, self.owner, self._watches, self._supervisor)
        await self._hearing.start()
        self._guarding = self._guard.start(self._supervisor)
        return self

    async def close(self) -> None:
        if self._guarding is not None:
            await self._guarding.stop()
            await self._say_closed()
            await self._hearing.close()
            await self._link.close()

    async def _say_closed(self) -> None:
        """What is not said counts as killed: then callers that were told 202 may share a job that still runs."""
        if not self._link.is_single:
            return
        with contextlib.suppress(StoreUnavailable):
            await self._link.command("SET", f"{CLOSED}{self.owner}", "", "EX", CLOSED_SECONDS)

    def _some_server(self) -> str:
        return link.any_server(self._link.client, self._url)

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*(self._guard.warnings if self._guard else ()), *self._saved.warnings)

    # --- jobs

    async def commit(self, commit: Commit) -> Outcome:
        keys = self._keys[partition_of(commit.job.team)]
        is_new = commit.expected == 0
        if is_new and self._guard is not None and self._guard.unfit is not None:
            raise StoreUnavailable(str(self._guard.unfit))
        script = scripts.ACCEPT if is_new else scripts.RECORD
        payload, documents = wire.payload_of(commit, self._retention), commit.documents.values()
        answer = await self._link.script(script, wire.keys_of(commit, keys), payload, self._settings, *documents)
        return wire.outcome_of(answer)

    async def announce(self, job: str, seconds: float) -> None:
        await self._link.script(scripts.ANNOUNCE, [self._keys_of(job).kept], self._settings, job, seconds)

    async def recall(self, team: str, record: IdempotencyRecord) -> Repeated | None:
        return await requests.find_job(self._link, self._record_key(team, record), record, self._settings)

    async def remove_caller(self, team: str, record: IdempotencyRecord) -> None:
        await requests.remove_caller(self._link, self._record_key(team, record), record, self._settings)

    def _record_key(self, team: str, record: IdempotencyRecord) -> str:
        return self._keys[partition_of(team)].record(team, record.key, record.soft)

    async def load(self, job: str) -> Job | None:
        if not (keys := self._keys.of_job(job)):
            return None
        blob = await self._link.command("HGET", keys.job(job), "blob")
        return self._saved.read(job, blob) if blob else None

    async def documents(self, job: str, *names: str) -> Mapping[str, bytes]:
        if not names or not (keys := self._keys.of_job(job)):
            return {}
        found = await self._link.command("HMGET", keys.job(job), *(f"document:{name}" for name in names))
        return {name: document for name, document in zip(names, found, strict=True) if document is not None}

    async def claim(self, most: int = 100) -> tuple[Claimed, ...]:
        return await self._leases.claim(most)

    async def beat(self, leases: Mapping[str, int]) -> frozenset[str]:
        return await self._leases.beat(leases)

    async def snooze(self, job: str, fence: int, seconds: float) -> bool:
        return await self._leases.snooze(self._keys_of(job), job, fence, seconds)

    async def _due(self, index: str, most: int) -> list[str]:
        """What has had its time in all partitions, soonest first."""
        answers = await answered(
            self._link.script(scripts.DUE, [getattr(self._keys[partition], index)], self._settings, most)
            for partition in self.partitions
        )
        return [name for _, name in sorted(pair for answer in answers for pair in wire.due_of(answer))[:most]]

    def watch(self, job: str) -> Watch:
        return Watch(self._watches, job)

    # --- webhooks

    async def claim_deliveries(self, most: int = 20, lease: float = 60.0) -> tuple[Outgoing, ...]:
        claims = [self._claim_delivery(delivery, lease) for delivery in await self._due("outbox", most)]
        return tuple(claimed for claimed in await asyncio.gather(*claims) if claimed)

    async def _claim_delivery(self, delivery: str, lease: float) -> Outgoing | None:
        keys, token = self._keys_of(delivery), secrets.token_hex(8)
        asked = (self._settings, delivery, token, lease)
        found = await self._link.script(scripts.OUTGOING, [keys.outbox, keys.webhooks], *asked)
        return Outgoing(delivery=wire.delivery_of(found[0]), tries=int(found[1])) if found and found[0] else None

    async def delivered(self, delivery: str, job: str) -> None:
        keys = self._keys_of(job)
        await self._link.script(scripts.DELIVERED, [keys.outbox, keys.webhooks], self._settings, delivery)

    async def postpone(self, delivery: str, job: str, seconds: float) -> None:
        await self._link.script(scripts.POSTPONE, [self._keys_of(job).outbox], self._settings, delivery, seconds)

    # --- reading

    async def list(self, team: str, limit: int = 20, after: str | None = None) -> Page:
        if after is not None and not _CURSOR.fullmatch(after):
            raise ValueError("this is no cursor: use the one that came with the page before")
        jobs: builtins.list[Job] = []
        limit, before = max(1, min(limit, 100)), f"({after}" if after else "+"
        keys = self._keys[partition_of(team)]
        while len(jobs) <= limit:
            names = await self._link.command("ZREVRANGEBYLEX", keys.jobs(team), before, "-", "LIMIT", 0, limit + 1)
            loads = [self._listed(name.decode().partition(":")[2], keys) for name in names]
            jobs += [job for job in await asyncio.gather(*loads) if job]
            if len(names) <= limit:
                break
            before = f"({names[-1].decode()}"
        more = wire.listed(jobs[limit - 1].created, jobs[limit - 1].id) if len(jobs) > limit else None
        return Page(tuple(jobs[:limit]), more)

    async def _listed(self, job: str, keys: Keys) -> Job | None:
        blob = await self._link.command("HGET", keys.job(job), "blob")
        return self._saved.try_to_read(job, blob) if blob else None

    async def milestones(self, job: str, after: int = 0) -> tuple[Milestone, ...]:
        if not (keys := self._keys.of_job(job)):
            return ()
        lines = await self._link.command("LRANGE", keys.milestones(job), max(after, 0), -1)
        return wire.milestones_of(lines)

    async def budget(self, team: str, *windows: str) -> Mapping[str, Balance]:
        keys = self._keys[partition_of(team)]
        asked = [self._link.command("HMGET", keys.budget(team, window), "held", "spent") for window in windows]
        return {
            window: Balance(held=int(held or 0), spent=int(spent or 0))
            for window, (held, spent) in zip(windows, await asyncio.gather(*asked), strict=True)
        }

    async def ledger(self, day: str, team: str | None = None) -> tuple[LedgerEntry, ...]:
        asked = [self._link.command("LRANGE", self._keys[one].ledger(day), 0, -1) for one in self._partitions_of(team)]
        entries = (entry for lines in await asyncio.gather(*asked) for entry in wire.entries_of(lines))
        return tuple(entry for entry in entries if team in (None, entry.team))

    async def usage(self, first: str, last: str, team: str | None = None) -> tuple[Total, ...]:
        found: builtins.list[Total] = []
        for day in days_between(first, last):
            asked = [self._link.command("HGETALL", self._keys[one].totals(day)) for one in self._partitions_of(team)]
            found += [total for flat in await asyncio.gather(*asked) for total in wire.totals_of(day, flat)]
        return tuple(total for total in found if team in (None, total.account.team))

    # --- what replicas share, and upkeep

    async def share(self, name: str, value: bytes) -> None:
        await self._link.script(scripts.SHARE, [SHARED], self._settings, name, value)

    async def shared(self) -> Mapping[str, bytes]:
        told = await self._link.script(scripts.SHARED, [SHARED], self._settings, SHARED_SECONDS)
        return {name.decode(): value for name, value in zip(told[::2], told[1::2], strict=True)}

    async def audit(self, partition: int, repair: bool = True) -> Findings:
        return await self._auditor(partition, repair)

    async def outdated(self, most: int = 100) -> tuple[str, ...]:
        return tuple(await self._due("kept", most))

    async def forget(self, job: str) -> None:
        keys = self._keys_of(job)
        saved = await self.load(job)
        jobs, listed = (keys.jobs(saved.team), wire.listed(saved.created, job)) if saved else (keys.no_record, "")
        names = [keys.job(job), keys.milestones(job), keys.kept, jobs]
        await self._link.script(scripts.FORGET, names, self._settings, job, listed)

    async def sweep(self) -> None:
        """Nothing is left to do: money, keys and signals carry their own ends."""

    # --- what they share

    async def _auditor(self, partition: int, repair: bool = True, also: Collection[str] = ()) -> Findings:
        auditor = Auditor(self._link, self._keys[partition], self._retention, self._saved)
        return await auditor.audit(self._settings, self._now(), repair, also)

    def _now(self) -> float:
        return self._clock() if self._clock else time()

    @property
    def _settings(self) -> bytes:
        if self._clock is None:
            return self._fixed_settings
        return self._settings_at(self._clock())

    def _settings_at(self, now: float | None) -> bytes:
        return wire.settings(self.owner, self._lease, self._retention, self._link.is_single, now)

    def _keys_of(self, job: str) -> Keys:
        if not (keys := self._keys.of_job(job[:_ID_LENGTH])):
            raise ValueError("this is not the id of a job")
        return keys

    def _partitions_of(self, team: str | None) -> Sequence[int]:
        return self.partitions if team is None else (partition_of(team),)
