"""A commit as the Lua script wants it, and what lies in Redis as our words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from gateway.jobs.commit import Commit, Delivery, IdempotencyRecord, LedgerEntry, Milestone, windows_of
from gateway.store.base import (
    BEATS_PER_LEASE,
    EARLY_DEATHS,
    LONGEST_LEASE,
    REMEMBERED_OPS,
    Applied,
    Fenced,
    KeyReused,
    Known,
    Outcome,
    OverBudget,
    Repeated,
    Retention,
    Stale,
    StoreError,
    recalled,
)
from gateway.store.books import Account, Total, account_of
from gateway.store.redis.keys import CHANNEL, CLOSED, REPLICAS, Keys

pack = msgspec.msgpack.Encoder().encode
_encoder = msgspec.json.Encoder()
_milestone = msgspec.json.Decoder(Milestone)
_entry = msgspec.json.Decoder(LedgerEntry)
_delivery = msgspec.json.Decoder(Delivery)
_account = msgspec.json.Decoder(Account)


def _json(value: Any) -> str:
    """As text: Redis's MessagePack knows no bytes."""
    return _encoder.encode(value).decode()


def settings(owner: str, lease: float, retention: Retention, is_single: bool, now: float | None) -> bytes:
    """What every script needs to know. Without `now` the server's own clock is used."""
    replicas = {"replicas": REPLICAS, "closed": CLOSED} if is_single else {}
    return pack(
        {
            "owner": owner,
            "lease": lease,
            "keep_jobs": retention.jobs,
            "remembered": REMEMBERED_OPS,
            "early_deaths": EARLY_DEATHS,
            "longest_lease": LONGEST_LEASE,
            "beat_seconds": lease / BEATS_PER_LEASE,
            "channel": CHANNEL,
            **replicas,
            **({} if now is None else {"now": now}),
        }
    )


def keys_of(commit: Commit, keys: Keys) -> tuple[str, ...]:
    job = commit.job
    day, month = windows_of(job.created)
    return (
        keys.job(job.id),
        keys.due,
        keys.open,
        keys.jobs(job.team),
        keys.milestones(job.id),
        keys.ledger(day),
        keys.totals(day),
        keys.budget(job.team, day),
        keys.budget(job.team, month),
        keys.outbox,
        keys.webhooks,
        _record(commit, keys),
        keys.teams,
        keys.kept,
    )


def _record(commit: Commit, keys: Keys) -> str:
    if commit.idempotency:
        return keys.record(commit.job.team, commit.idempotency.key, commit.idempotency.soft)
    job = commit.job
    if commit.linger is not None and (key := job.soft_key or job.hard_key):
        return keys.record(job.team, key, soft=job.soft_key is not None)
    return keys.no_record


def payload_of(commit: Commit, retention: Retention) -> bytes:
    job = commit.job
    day, _ = windows_of(job.created)
    message: dict[str, Any] = {
        "id": job.id,
        "op": commit.op,
        "expected": commit.expected,
        "blob": commit.blob.decode(),
        "documents": list(commit.documents),
        "dropped": commit.dropped,
        "milestones": [_json(milestone) for milestone in commit.milestones],
        "webhooks": [{"id": webhook.id, "data": _json(webhook)} for webhook in commit.webhooks],
        "ledger": [entry_message(entry) for entry in commit.ledger],
        "budget": [
            {
                "kind": "day" if move.window == day else "month",
                "window": move.window,
                "hold": move.hold,
                "spend": move.spend,
                **({} if move.limit is None else {"limit": move.limit}),
            }
            for move in commit.budget
        ],
    }
    if commit.fence is not None:
        message["fence"] = commit.fence
    if commit.due is not None:
        message["due"] = max(0.0, commit.due - commit.at)
    if commit.linger is not None:
        soft = job.soft_key is not None
        message |= {"linger": commit.linger, "soft": soft}
        message |= {"may_be_bought": commit.may_be_bought, "is_refused": commit.is_refused}
    if commit.ledger or commit.budget:
        message |= {"ledger_ends": ends(day, retention.ledger), "totals_end": ends(day, retention.totals)}
    if commit.expected == 0:
        message |= _acceptance(commit, retention)
    return pack(message)


def _acceptance(commit: Commit, retention: Retention) -> dict[str, Any]:
    job = commit.job
    oldest = max(0.0, job.created - retention.jobs - 2 * 86_400)
    message: dict[str, Any] = {"team": job.team, "listed": listed(job.created, job.id), "oldest": listed(oldest, "")}
    if commit.idempotency:
        message["idempotency"] = record_message(commit.idempotency)
    return message


def record_message(record: IdempotencyRecord) -> dict[str, Any]:
    return {
        "fingerprint": record.fingerprint,
        "seconds": record.seconds,
        "soft": record.soft,
        "attach": record.attach,
        "expects_first": record.expects_first,
        "retry": record.retry,
        "caller": record.caller,
    }


def entry_message(entry: LedgerEntry) -> dict[str, Any]:
    account = _json(account_of(entry))
    return {"data": _json(entry), "account": account, "amount": entry.amount, "images": entry.images}


def ends(day: str, seconds: float) -> float:
    """When what belongs to a day is kept no longer: so long after the month that it is in."""
    last = datetime.fromisoformat(f"{day[:7]}-01").replace(tzinfo=UTC) + timedelta(days=31)
    return last.timestamp() + seconds


def listed(created: float, job: str) -> str:
    """How a job stands in its team's list: by its time, then its id, in the order of the letters."""
    return f"{created:017.6f}:{job}"


def outcome_of(answer: list[bytes]) -> Outcome:
    match answer:
        case [b"applied"]:
            return Applied()
        case [b"stale"]:
            return Stale()
        case [b"fenced"]:
            return Fenced()
        case [b"known", job]:
            return Known(job.decode())
        case [b"key reused", job]:
            return KeyReused(job.decode())
        case [_, window, limit, spent, held]:
            return OverBudget(window=window.decode(), limit=int(limit), spent=int(spent), held=int(held))
    raise ValueError(f"an answer that no script gives: {answer!r}")


def recalled_of(record: IdempotencyRecord, found: "list[bytes | None]") -> Repeated | None:
    """From what lies under a caller's key; Redis itself forgets it in time."""
    fingerprint, job = found
    return recalled(record, fingerprint.decode(), job.decode()) if fingerprint and job else None


def due_of(flat: "list[bytes]") -> list[tuple[float, str]]:
    """Scores and names, as a script's answer has them side by side."""
    return [(float(score), name.decode()) for name, score in zip(flat[::2], flat[1::2], strict=True)]


def milestones_of(lines: list[bytes]) -> tuple[Milestone, ...]:
    return tuple(_milestone.decode(line) for line in lines)


def entries_of(lines: list[bytes]) -> tuple[LedgerEntry, ...]:
    """StoreError if one was written by a newer version, in words that this one does not know."""
    try:
        return tuple(_entry.decode(line) for line in lines)
    except msgspec.MsgspecError:
        raise StoreError("a ledger entry cannot be read by this version") from None


def delivery_of(data: bytes) -> Delivery:
    return _delivery.decode(data)


def totals_of(day: str, flat: "list[bytes] | dict[bytes, bytes]") -> tuple[Total, ...]:
    """A day's hash: one field for the amount of each account, one for its images."""
    fields = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    return tuple(
        Total(
            day=day,
            account=_account.decode(field.removeprefix(b"amount:")),
            amount=int(amount),
            images=int(fields.get(b"images:" + field.removeprefix(b"amount:"), 0)),
        )
        for field, amount in fields.items()
        if field.startswith(b"amount:")
    )


def total_message(total: Total) -> dict[str, Any]:
    return {"account": _json(total.account), "amount": total.amount, "images": total.images}
