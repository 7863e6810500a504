"""Working the derived numbers out anew, and forgetting what is old."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from sqlite3 import Connection

import msgspec

from gateway.store.auditing import Findings, Snapshot, days_to_audit, examine
from gateway.store.base import Retention
from gateway.store.books import Balance, Total
from gateway.store.sqlite.books import ACCOUNT, ENTRY, add_totals, append, move_budgets
from gateway.store.sqlite.reading import SIGNAL_SECONDS, Jobs

# How much is forgotten at a time: a few milliseconds, in which nobody else writes.
BITE_OF_ROWS = 1_000

_LISTED = """SELECT jobs.id, jobs.blob, jobs.settled IS NULL, due.job IS NOT NULL
FROM jobs LEFT JOIN due ON due.job = jobs.id WHERE jobs.settled IS NULL
UNION ALL
SELECT due.job, jobs.blob, 0, 1 FROM due LEFT JOIN jobs ON jobs.id = due.job
WHERE jobs.id IS NULL OR jobs.settled IS NOT NULL"""
_LEDGER = "SELECT entry FROM ledger WHERE day IN (SELECT value FROM json_each(?)) ORDER BY number"
_TOTALS = "SELECT day, account, amount, images FROM totals WHERE day BETWEEN ? AND ?"
_BALANCES = "SELECT team, window, held, spent FROM budgets WHERE window IN (SELECT value FROM json_each(?))"

_DUE_NOW = "INSERT OR IGNORE INTO due (job, at) VALUES (?, ?)"
_REOPEN = "UPDATE jobs SET settled = NULL WHERE id = ?"
_SETTLE = "UPDATE jobs SET settled = coalesce(settled, ?) WHERE id = ?"
_NOT_DUE = "DELETE FROM due WHERE job = ?"

_FIRST_OPEN = "SELECT min(created) FROM jobs WHERE settled IS NULL"
_ANNOUNCE = "INSERT OR REPLACE INTO announced (job, at) VALUES (?, ?)"
_OLD_JOBS = """SELECT id FROM jobs WHERE settled <= ?
UNION ALL SELECT job FROM announced WHERE at <= ? LIMIT ?"""
_OF_JOB = (
    "DELETE FROM documents WHERE job = ?",
    "DELETE FROM milestones WHERE job = ?",
    "DELETE FROM outbox WHERE job = ?",
    "DELETE FROM due WHERE job = ?",
    "DELETE FROM announced WHERE job = ?",
    "DELETE FROM jobs WHERE id = ?",
)
_OLD_ENTRIES = "DELETE FROM ledger WHERE number IN (SELECT number FROM ledger WHERE day < ? LIMIT ?)"
_OLD_TOTALS = """DELETE FROM totals WHERE (day, account) IN
(SELECT day, account FROM totals WHERE day < ? LIMIT ?)"""
# A month is the beginning of its days' names, so it counts as one of them only when it is over.
_OLD_BUDGETS = """DELETE FROM budgets WHERE (window, team) IN
(SELECT window, team FROM budgets WHERE window < ? AND window <> substr(?1, 1, 7) LIMIT ?2)"""
_OLD_KEYS = "DELETE FROM keys WHERE (team, key) IN (SELECT team, key FROM keys WHERE expires <= ? LIMIT ?)"
_OLD_BODIES = """DELETE FROM bodies WHERE (team, key, number) IN
(SELECT team, key, number FROM bodies WHERE expires <= ? LIMIT ?)"""
_OLD_SIGNALS = "DELETE FROM signals WHERE name IN (SELECT name FROM signals WHERE at <= ? LIMIT ?)"


# --- auditing


@contextmanager
def one_moment(db: Connection) -> Iterator[None]:
    """Everything that is read in here is of the same moment. Where one thread does everything, it is so already."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


def found_wrong(db: Connection, jobs: Jobs, now: float) -> Findings:
    return examine(_snapshot(db, jobs, now), now)


def mended(db: Connection, jobs: Jobs, now: float) -> Findings:
    """What was wrong until now."""
    findings = found_wrong(db, jobs, now)
    db.executemany(_DUE_NOW, [(job, now) for job in findings.not_due])
    db.executemany(_REOPEN, [(job,) for job in findings.not_open])
    db.executemany(_SETTLE, [(now, job) for job in findings.settled])
    db.executemany(_NOT_DUE, [(job,) for job in (*findings.settled, *findings.lost)])
    append(db, findings.entries)
    add_totals(db, findings.totals)
    move_budgets(db, ((drift.window, drift.team, drift.held, drift.spent) for drift in findings.balances))
    return findings


def _snapshot(db: Connection, reader: Jobs, now: float) -> Snapshot:
    """StoreError if a job cannot be read: what it has set aside would look like a mistake."""
    jobs, open_, due = {}, set(), set()
    for name, blob, is_open, is_due in db.execute(_LISTED).fetchall():
        if blob is not None:
            jobs[name] = reader.read(name, blob)
        open_ |= {name} if is_open else set()
        due |= {name} if is_due else set()
    days = days_to_audit(now, jobs.values())
    months = sorted({day[:7] for day in days})
    rows = db.execute(_BALANCES, (_listed((*days, *months)),)).fetchall()
    return Snapshot(
        jobs=jobs,
        open=frozenset(open_),
        due=frozenset(due),
        days=days,
        ledger=tuple(ENTRY.decode(entry) for (entry,) in db.execute(_LEDGER, (_listed(days),)).fetchall()),
        totals=tuple(total for month in months for total in _totals(db, month)),
        balances={(team, window): Balance(held=held, spent=spent) for team, window, held, spent in rows},
    )


def _listed(names: Iterable[str]) -> str:
    return msgspec.json.encode(list(names)).decode()


def _totals(db: Connection, month: str) -> Iterator[Total]:
    for day, account, amount, images in db.execute(_TOTALS, (f"{month}-01", f"{month}-31")).fetchall():
        yield Total(day=day, account=ACCOUNT.decode(account), amount=amount, images=images)


# --- forgetting


# Forgets one bite; whether there is more of the same.
Step = Callable[[Connection], bool]


def steps(retention: Retention, now: float) -> tuple[Step, ...]:
    """Each to be repeated while it finds more."""
    return (
        partial(_forget_money, retention=retention, now=now),
        partial(_forget_rows, sql=_OLD_KEYS, before=now),
        partial(_forget_rows, sql=_OLD_BODIES, before=now),
        partial(_forget_rows, sql=_OLD_SIGNALS, before=now - SIGNAL_SECONDS),
    )


def announce(db: Connection, job: str, at: float) -> None:
    db.execute(_ANNOUNCE, (job, at))


def outdated(db: Connection, before: float, now: float, most: int) -> tuple[str, ...]:
    return tuple(name for (name,) in db.execute(_OLD_JOBS, (before, now, most)).fetchall())


def forget(db: Connection, job: str) -> None:
    for sql in _OF_JOB:
        db.execute(sql, (job,))


def _forget_rows(db: Connection, sql: str, before: float | str) -> bool:
    return db.execute(sql, (before, BITE_OF_ROWS)).rowcount == BITE_OF_ROWS


def _forget_money(db: Connection, retention: Retention, now: float) -> bool:
    """Never days that are still audited, nor months that they belong to: they would seem to have lost money."""
    (first,) = db.execute(_FIRST_OPEN).fetchone()
    audited = min(_day(now) - timedelta(days=1), _day(now if first is None else first))
    entries = min(audited, _day(now - retention.ledger)).isoformat()
    totals = min(audited.replace(day=1), _day(now - retention.totals)).isoformat()
    cuts = ((_OLD_ENTRIES, entries), (_OLD_TOTALS, totals), (_OLD_BUDGETS, totals))
    return any([_forget_rows(db, sql, before) for sql, before in cuts])


def _day(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).date()
