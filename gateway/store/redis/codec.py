"""A commit as the Lua script wants it, and what lies in Redis as our words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from gateway.jobs.commit import Commit, IdempotencyRecord, LedgerEntry, Milestone, WebhookDelivery, budget_windows
from gateway.store.base import (
    MAX_EARLY_CRASHES,
    MAX_LEASE_SECONDS,
    MAX_REMEMBERED_COMMITS,
    RENEWALS_PER_LEASE,
    Applied,
    BudgetExceeded,
    CommitOutcome,
    DuplicateRequest,
    IdempotencyKeyReused,
    IdempotencyMatch,
    LeaseLost,
    Retention,
    StoreError,
    VersionConflict,
    match_fingerprint,
)
from gateway.store.ledger_totals import DayTotal, LedgerAccount, ledger_account
from gateway.store.redis.keys import CHANGES_CHANNEL, CLOSED_MARK_PREFIX, REPLICA_CHANNEL_PREFIX, PartitionKeys

pack = msgspec.msgpack.Encoder().encode
_encoder = msgspec.json.Encoder()
_milestone_decoder = msgspec.json.Decoder(Milestone)
_entry_decoder = msgspec.json.Decoder(LedgerEntry)
_delivery_decoder = msgspec.json.Decoder(WebhookDelivery)
_account_decoder = msgspec.json.Decoder(LedgerAccount)


def _to_json(value: Any) -> str:
    """As text: Redis's MessagePack knows no bytes."""
    return _encoder.encode(value).decode()


def encode_settings(replica_id: str, lease: float, retention: Retention, is_single: bool, now: float | None) -> bytes:
    """What every script needs to know. Without `now` the server's own clock is used."""
    replica_keys = {"replicas": REPLICA_CHANNEL_PREFIX, "closed": CLOSED_MARK_PREFIX} if is_single else {}
    return pack(
        {
            "owner": replica_id,
            "lease": lease,
            "keep_jobs": retention.jobs,
            "remembered": MAX_REMEMBERED_COMMITS,
            "early_deaths": MAX_EARLY_CRASHES,
            "longest_lease": MAX_LEASE_SECONDS,
            "beat_seconds": lease / RENEWALS_PER_LEASE,
            "channel": CHANGES_CHANNEL,
            **replica_keys,
            **({} if now is None else {"now": now}),
        }
    )


def commit_keys(commit: Commit, keys: PartitionKeys) -> tuple[str, ...]:
    job = commit.job
    day, month = budget_windows(job.created_at)
    return (
        keys.job(job.id),
        keys.due,
        keys.open,
        keys.team_jobs(job.team),
        keys.milestones(job.id),
        keys.ledger(day),
        keys.totals(day),
        keys.budget(job.team, day),
        keys.budget(job.team, month),
        keys.outbox,
        keys.webhooks,
        _record_key(commit, keys),
        keys.teams,
        keys.retention,
    )


def _record_key(commit: Commit, keys: PartitionKeys) -> str:
    if commit.idempotency:
        return keys.idempotency_record(commit.job.team, commit.idempotency.key, commit.idempotency.is_body_key)
    job = commit.job
    if commit.idempotency_ttl is not None and (key := job.body_key or job.client_key):
        return keys.idempotency_record(job.team, key, is_body_key=job.body_key is not None)
    return keys.no_idempotency_record


def encode_commit(commit: Commit, retention: Retention) -> bytes:
    job = commit.job
    day, _ = budget_windows(job.created_at)
    message: dict[str, Any] = {
        "id": job.id,
        "op": commit.commit_id,
        "expected": commit.expected_version,
        "blob": commit.encoded_job.decode(),
        "documents": list(commit.documents),
        "dropped": commit.removed_documents,
        "milestones": [_to_json(milestone) for milestone in commit.milestones],
        "webhooks": [{"id": webhook.id, "data": _to_json(webhook)} for webhook in commit.webhook_deliveries],
        "ledger": [encode_entry(entry) for entry in commit.ledger_entries],
        "budget": [
            {
                "kind": "day" if change.window == day else "month",
                "window": change.window,
                "hold": change.hold,
                "spend": change.spend,
                **({} if change.limit is None else {"limit": change.limit}),
            }
            for change in commit.budget_changes
        ],
    }
    if commit.fence is not None:
        message["fence"] = commit.fence
    if commit.due_at is not None:
        message["due"] = max(0.0, commit.due_at - commit.committed_at)
    if commit.idempotency_ttl is not None:
        is_body_key = job.body_key is not None
        message |= {"linger": commit.idempotency_ttl, "soft": is_body_key}
        message |= {"may_be_bought": commit.may_be_charged, "is_refused": commit.is_refused}
    if commit.ledger_entries or commit.budget_changes:
        message |= {
            "ledger_ends": compute_expiry(day, retention.ledger),
            "totals_end": compute_expiry(day, retention.totals),
        }
    if commit.expected_version == 0:
        message |= _encode_new_job(commit, retention)
    return pack(message)


def _encode_new_job(commit: Commit, retention: Retention) -> dict[str, Any]:
    job = commit.job
    oldest_member = max(0.0, job.created_at - retention.jobs - 2 * 86_400)
    message: dict[str, Any] = {
        "team": job.team,
        "listed": format_list_member(job.created_at, job.id),
        "oldest": format_list_member(oldest_member, ""),
    }
    if commit.idempotency:
        message["idempotency"] = encode_record(commit.idempotency)
    return message


def encode_record(record: IdempotencyRecord) -> dict[str, Any]:
    return {
        "fingerprint": record.fingerprint,
        "seconds": record.ttl_seconds,
        "soft": record.is_body_key,
        "attach": record.is_retry,
        "expects_first": record.expects_first,
        "retry": record.retry_count,
        "caller": record.caller_id,
    }


def encode_entry(entry: LedgerEntry) -> dict[str, Any]:
    account = _to_json(ledger_account(entry))
    return {"data": _to_json(entry), "account": account, "amount": entry.amount, "images": entry.images}


def compute_expiry(day: str, retention_seconds: float) -> float:
    """When what belongs to a day is kept no longer: so long after the month that it is in."""
    month_end = datetime.fromisoformat(f"{day[:7]}-01").replace(tzinfo=UTC) + timedelta(days=31)
    return month_end.timestamp() + retention_seconds


def format_list_member(created_at: float, job_id: str) -> str:
    """How a job stands in its team's list: by its time, then its id, in the order of the letters."""
    return f"{created_at:017.6f}:{job_id}"


def decode_outcome(reply: list[bytes]) -> CommitOutcome:
    match reply:
        case [b"applied"]:
            return Applied()
        case [b"stale"]:
            return VersionConflict()
        case [b"fenced"]:
            return LeaseLost()
        case [b"known", job_id]:
            return DuplicateRequest(job_id.decode())
        case [b"key reused", job_id]:
            return IdempotencyKeyReused(job_id.decode())
        case [_, window, limit, spent, held]:
            return BudgetExceeded(window=window.decode(), limit=int(limit), spent=int(spent), held=int(held))
    raise ValueError(f"an answer that no script gives: {reply!r}")


def decode_match(record: IdempotencyRecord, values: "list[bytes | None]") -> IdempotencyMatch | None:
    """From what lies under a caller's key; Redis itself forgets it in time."""
    fingerprint, job_id = values
    return match_fingerprint(record, fingerprint.decode(), job_id.decode()) if fingerprint and job_id else None


def decode_scores(reply: "list[bytes]") -> list[tuple[float, str]]:
    """Scores and names, as a script's answer has them side by side."""
    return [(float(score), member.decode()) for member, score in zip(reply[::2], reply[1::2], strict=True)]


def decode_milestones(lines: list[bytes]) -> tuple[Milestone, ...]:
    return tuple(_milestone_decoder.decode(line) for line in lines)


def decode_entries(lines: list[bytes]) -> tuple[LedgerEntry, ...]:
    """StoreError if one was written by a newer version, in words that this one does not know."""
    try:
        return tuple(_entry_decoder.decode(line) for line in lines)
    except msgspec.MsgspecError:
        raise StoreError("a ledger entry cannot be read by this version") from None


def decode_delivery(data: bytes) -> WebhookDelivery:
    return _delivery_decoder.decode(data)


def decode_totals(day: str, reply: "list[bytes] | dict[bytes, bytes]") -> tuple[DayTotal, ...]:
    """A day's hash: one field for the amount of each account, one for its images."""
    fields = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    return tuple(
        DayTotal(
            day=day,
            account=_account_decoder.decode(field.removeprefix(b"amount:")),
            amount=int(amount),
            images=int(fields.get(b"images:" + field.removeprefix(b"amount:"), 0)),
        )
        for field, amount in fields.items()
        if field.startswith(b"amount:")
    )


def encode_total(total: DayTotal) -> dict[str, Any]:
    return {"account": _to_json(total.account), "amount": total.amount, "images": total.images}
