"""The store for one process: a file, its exclusive lock, one thread that writes and one that reads.

Money and due times change in the job's own transaction, and what was answered is on the disk.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Self, TypeVar

from msgspec import Struct

from gateway.jobs.commit import Commit, IdempotencyRecord, LedgerEntry, Milestone
from gateway.jobs.job import Job
from gateway.store.auditing import Findings
from gateway.store.base import (
    Applied,
    Claimed,
    Outcome,
    Outgoing,
    Page,
    Repeated,
    Retention,
    StoreError,
    StoreFull,
    StoreUnavailable,
    looks_back,
)
from gateway.store.books import Balance, Total
from gateway.store.sqlite import leases, reading, upkeep
from gateway.store.sqlite.bodies import Body, attach_caller, mark_closed, remove_caller, remove_dead_callers
from gateway.store.sqlite.commit import Committing
from gateway.store.sqlite.file import Lock, for_reading, for_writing, is_alone, locked
from gateway.store.sqlite.leases import Owning
from gateway.store.sqlite.threads import Reader, Writer
from gateway.store.watching import Watch, Watches
from gateway.supervision import Supervisor

T = TypeVar("T")


class _Open(Struct, frozen=True):
    """What is held from opening to closing. Without a reader, the writer reads, too."""

    lock: Lock
    writer: Writer
    reader: Reader | None


class SqliteStore:
    """Everything lies in one partition."""

    partitions: Sequence[int] = (0,)

    def __init__(  # noqa: PLR0913 - all but the path have a default
        self,
        path: str | Path,
        *,
        owner: str | None = None,
        lease: float = 15.0,
        retention: Retention = Retention(),  # noqa: B008  it is immutable
        clock: Callable[[], float] = time.time,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.owner = owner or f"sqlite-{secrets.token_hex(4)}"
        # Resolved, so that whichever way leads to the file, there is one lock.
        self._path, self._retention, self._clock = Path(path).resolve(), retention, clock
        self._jobs = reading.Jobs()
        self._committing = Committing(owner=self.owner, lease=lease, clock=clock)
        self._owning = Owning(self.owner, lease, self._jobs)
        self._watches = Watches()
        self._supervisor = supervisor or Supervisor()
        self._open: _Open | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> Self:
        """In the loop itself: nothing else goes on yet that it could hold up."""
        lock = locked(self._path)
        try:
            writer = Writer(partial(for_writing, self._path), "writer", self._supervisor)
            try:
                alone = await writer.do(is_alone)
                await self._remove_dead_callers(writer)
                reader = None if alone else Reader(partial(for_reading, self._path), "reader", self._supervisor)
            except StoreError:
                await writer.stop()
                raise
        except StoreError:
            lock.release()
            raise
        self._open = _Open(lock, writer, reader)
        self._closing = None
        return self

    async def _remove_dead_callers(self, writer: Writer) -> None:
        """Where the disk is full they stay until their jobs are claimed: nothing can be accepted either."""
        with contextlib.suppress(StoreFull):
            await writer.do(lambda db: remove_dead_callers(db, self.owner, self._clock()))

    async def close(self) -> None:
        """Goes on to the end also when whoever waits for it is cancelled."""
        if self._open is not None and self._closing is None:
            self._closing = asyncio.create_task(self._close(self._open))
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def _close(self, held: _Open) -> None:
        """The reader first: the last connection moves the log into the database, and only the writer can."""
        if held.reader is not None:
            await held.reader.stop()
        # A process without this mark counts as killed: then callers that were answered may share a job.
        with contextlib.suppress(StoreError):
            await held.writer.do(lambda db: mark_closed(db, self.owner, self._clock()))
        await held.writer.stop()
        held.lock.release()
        self._open = None

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._jobs.warnings

    async def _write(self, run: Callable[[Connection], T], then: Callable[[T], None] | None = None) -> T:
        return await self._held().writer.do(run, then)

    async def _read(self, run: Callable[[Connection], T]) -> T:
        held = self._held()
        return await (held.reader or held.writer).do(run)

    def _held(self) -> _Open:
        if self._open is None:
            raise StoreUnavailable("the store is not open")
        return self._open

    # --- jobs

    async def commit(self, commit: Commit) -> Outcome:
        return await self._write(lambda db: self._committing(db, commit), partial(self._tell, commit.job.id))

    def _tell(self, job: str, outcome: Outcome) -> None:
        if isinstance(outcome, Applied):
            self._watches.tell(job)

    async def announce(self, job: str, seconds: float) -> None:
        await self._write(lambda db: upkeep.announce(db, job, self._clock() + seconds))

    async def recall(self, team: str, record: IdempotencyRecord) -> Repeated | None:
        if not looks_back(record):
            return None
        if record.soft:
            return await self._write(lambda db: attach_caller(db, self._body(team, record), record))
        return await self._read(lambda db: reading.recall(db, team, record, self._clock()))

    async def remove_caller(self, team: str, record: IdempotencyRecord) -> None:
        if record.soft:
            await self._write(lambda db: remove_caller(db, self._body(team, record), record.caller))

    def _body(self, team: str, record: IdempotencyRecord) -> Body:
        return Body(team, record.key, self._clock())

    async def load(self, job: str) -> Job | None:
        return await self._read(lambda db: self._jobs.load(db, job))

    async def documents(self, job: str, *names: str) -> Mapping[str, bytes]:
        return await self._read(lambda db: reading.documents(db, job, names))

    async def claim(self, most: int = 100) -> tuple[Claimed, ...]:
        return await self._write(lambda db: self._owning.claim(db, most, self._clock()))

    async def beat(self, leases: Mapping[str, int]) -> frozenset[str]:
        leases = dict(leases)
        return await self._write(lambda db: self._owning.beat(db, leases, self._clock()))

    async def snooze(self, job: str, fence: int, seconds: float) -> bool:
        return await self._write(lambda db: self._owning.snooze(db, job, fence, self._clock() + seconds))

    async def list(self, team: str, limit: int = 20, after: str | None = None) -> Page:
        place = None if after is None else reading.place(after)
        return await self._read(lambda db: self._jobs.list(db, team, limit, place))

    async def milestones(self, job: str, after: int = 0) -> tuple[Milestone, ...]:
        return await self._read(lambda db: reading.milestones(db, job, after))

    # --- money

    async def budget(self, team: str, *windows: str) -> Mapping[str, Balance]:
        return await self._read(lambda db: reading.budget(db, team, windows))

    async def ledger(self, day: str, team: str | None = None) -> tuple[LedgerEntry, ...]:
        return await self._read(lambda db: reading.ledger(db, day, team))

    async def usage(self, first: str, last: str, team: str | None = None) -> tuple[Total, ...]:
        return await self._read(lambda db: reading.usage(db, first, last, team))

    # --- webhooks and signals

    async def claim_deliveries(self, most: int = 20, lease: float = 60.0) -> tuple[Outgoing, ...]:
        def claim(db: Connection) -> tuple[Outgoing, ...]:
            now = self._clock()
            return leases.claim_deliveries(db, most, now, now + lease)

        return await self._write(claim)

    async def delivered(self, delivery: str, job: str) -> None:
        await self._write(lambda db: leases.delivered(db, delivery, job))

    async def postpone(self, delivery: str, job: str, seconds: float) -> None:
        await self._write(lambda db: leases.postpone(db, delivery, job, self._clock() + seconds))

    async def share(self, name: str, value: bytes) -> None:
        await self._write(lambda db: leases.share(db, name, value, self._clock()))

    async def shared(self) -> Mapping[str, bytes]:
        return await self._read(lambda db: reading.shared(db, self._clock()))

    def watch(self, job: str) -> Watch:
        return Watch(self._watches, job)

    # --- upkeep

    async def audit(self, partition: int, repair: bool = True) -> Findings:
        """Looks beside the writer, which is held up only if there is something to mend."""

        def look(db: Connection) -> Findings:
            with upkeep.one_moment(db):
                return upkeep.found_wrong(db, self._jobs, self._clock())

        findings = await self._read(look)
        if not (repair and findings.violations):
            return findings
        return await self._write(lambda db: upkeep.mended(db, self._jobs, self._clock()))

    async def outdated(self, most: int = 100) -> tuple[str, ...]:
        now, kept = self._clock(), self._retention.jobs
        return await self._read(lambda db: upkeep.outdated(db, now - kept, now, most))

    async def forget(self, job: str) -> None:
        await self._write(lambda db: upkeep.forget(db, job))

    async def sweep(self) -> None:
        for step in upkeep.steps(self._retention, self._clock()):
            while await self._write(step):
                continue
