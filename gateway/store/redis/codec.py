"""Encodes commits for the Lua scripts and decodes their replies and stored values."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from gateway.jobs.budgets import list_budget_windows, list_owners
from gateway.jobs.commit import (
    Commit,
    IdempotencyRecord,
    LedgerEntry,
    Milestone,
    WebhookDelivery,
    get_hour,
)
from gateway.store import decision_record_pages
from gateway.store.base import (
    MAX_EARLY_CRASHES,
    MAX_LEASE_SECONDS,
    MAX_REMEMBERED_COMMITS,
    MIN_BUDGET_SECONDS,
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
from gateway.store.job_pages import JobPosition
from gateway.store.ledger_totals import BudgetBalance, LedgerAccount, LedgerTotal, format_hour, ledger_account
from gateway.store.partitions import get_job_day
from gateway.store.redis.keys import CHANGES_CHANNEL, CLOSED_MARK_PREFIX, REPLICA_CHANNEL_PREFIX, PartitionKeys
from gateway.store.statistics import LifetimeTotal, OpenState, get_open_state

# The keys that every commit has.
COMMON_KEY_COUNT = 18
# Longer than any time is, and short enough that scores are exact to the millisecond.
_STATE_SECONDS = 1e11
pack = msgspec.msgpack.Encoder().encode
_encoder = msgspec.json.Encoder()
_milestone_decoder = msgspec.json.Decoder(Milestone)
_entry_decoder = msgspec.json.Decoder(LedgerEntry)
_delivery_decoder = msgspec.json.Decoder(WebhookDelivery)
_account_decoder = msgspec.json.Decoder(LedgerAccount)


def _to_json(value: Any) -> str:
    """Encodes as JSON text, since the MessagePack of Redis has no bytes."""
    return _encoder.encode(value).decode()


def encode_settings(replica_id: str, lease: float, retention: Retention, is_single: bool, now: float | None) -> bytes:
    """Encodes the settings that every script receives. Without `now`, scripts use the clock of the server."""
    replica_keys = {
        "replica_channel_prefix": REPLICA_CHANNEL_PREFIX,
        "closed_mark_prefix": CLOSED_MARK_PREFIX,
    }
    return pack(
        {
            "replica_id": replica_id,
            "lease": lease,
            "max_remembered_commits": MAX_REMEMBERED_COMMITS,
            "max_early_crashes": MAX_EARLY_CRASHES,
            "max_lease": MAX_LEASE_SECONDS,
            "renewal_interval": lease / RENEWALS_PER_LEASE,
            "changes_channel": CHANGES_CHANNEL,
            **(replica_keys if is_single else {}),
            **({} if now is None else {"now": now}),
        }
    )


def commit_keys(commit: Commit, keys: PartitionKeys) -> tuple[str, ...]:
    """Returns the keys of a commit: those of every commit, then those of balances."""
    job = commit.job
    day, _ = list_budget_windows(job.created_at)
    return (
        keys.job(job.id),
        keys.due,
        keys.open,
        keys.team_jobs(job.team),
        keys.milestones(job.id),
        keys.ledger(day),
        keys.totals(day),
        keys.outbox,
        keys.webhooks,
        _record_key(commit, keys),
        keys.owners,
        keys.retention,
        keys.decision_records(get_job_day(job.id)),
        keys.audit,
        keys.uncounted_days,
        keys.open_states,
        keys.totals(format_hour(day, get_hour(job.created_at))),
        keys.irregular_entries(day),
        *(keys.budget(owner, window) for owner, window in _list_balances(commit)),
    )


def _list_balances(commit: Commit) -> dict[tuple[str, str], int]:
    """Returns owner and window of each balance that a commit reads or changes, with the index of its key in Lua."""
    balances = [(change.owner, change.window) for change in commit.budget_changes]
    for limit in commit.budget_limits:
        balances += [(limit.owner, part) for part in limit.window.parts]
    return {balance: index for index, balance in enumerate(dict.fromkeys(balances), COMMON_KEY_COUNT + 1)}


def _record_key(commit: Commit, keys: PartitionKeys) -> str:
    if commit.idempotency:
        return keys.idempotency_record(commit.job.team, commit.idempotency.key, commit.idempotency.is_body_key)
    job = commit.job
    if commit.idempotency_ttl is not None and (key := job.body_key or job.client_key):
        return keys.idempotency_record(job.team, key, is_body_key=job.body_key is not None)
    return keys.no_idempotency_record


def encode_commit(commit: Commit, retention: Retention) -> bytes:
    job = commit.job
    day, _ = list_budget_windows(job.created_at)
    balances = _list_balances(commit)
    message: dict[str, Any] = {
        "job_id": job.id,
        "commit_id": commit.commit_id,
        "expected_version": commit.expected_version,
        "encoded_job": commit.encoded_job.decode(),
        "documents": list(commit.documents),
        "removed_documents": commit.removed_documents,
        "milestones": [_to_json(milestone) for milestone in commit.milestones],
        "webhooks": [{"delivery_id": webhook.id, "data": _to_json(webhook)} for webhook in commit.webhook_deliveries],
        "ledger": [encode_entry(entry) for entry in commit.ledger_entries],
        "budget": [
            {
                "key": balances[change.owner, change.window],
                "hold": change.hold,
                "spend": change.spend,
                **encode_budget_expiry(change.window, retention),
            }
            for change in commit.budget_changes
        ],
    }
    if commit.job_outcome is not None:
        message["job_outcome"] = commit.job_outcome.decode()
    if commit.fence is not None:
        message["fence"] = commit.fence
    if commit.due_at is not None:
        message["due_in_seconds"] = max(0.0, commit.due_at - commit.committed_at)
        message["open_state_score"] = get_state_bounds(get_open_state(job))[0] + job.created_at
    if commit.idempotency_ttl is not None:
        is_body_key = job.body_key is not None
        message |= {"idempotency_ttl": commit.idempotency_ttl, "is_body_key": is_body_key}
        message |= {"may_be_charged": commit.may_be_charged, "is_refused": commit.is_refused}
    message |= _encode_cleanup(commit)
    if commit.ledger_entries:
        message |= {
            "ledger_expires_at": compute_expiry(day, retention.ledger),
            "totals_expire_at": compute_expiry(day, retention.totals),
            "ledger_day": day,
        }
    if commit.expected_version == 0:
        message |= _encode_new_job(commit, balances, retention)
    return pack(message)


def _encode_cleanup(commit: Commit) -> dict[str, float]:
    fields = {"keep_seconds": commit.job.retention.job_seconds}
    if commit.cleanup_at is not None:
        fields["cleanup_in_seconds"] = max(0.0, commit.cleanup_at - commit.committed_at)
    return fields


def _encode_new_job(commit: Commit, balances: Mapping[tuple[str, str], int], retention: Retention) -> dict[str, Any]:
    job = commit.job
    message: dict[str, Any] = {
        "owners": list_owners(job.team, job.budget_key),
        "hold": job.hold,
        "limits": [
            {"amount": limit.amount, "keys": [balances[limit.owner, part] for part in limit.window.parts]}
            for limit in commit.budget_limits
        ],
        "list_member": format_list_member(job.created_at, job.id),
    }
    if commit.idempotency:
        message["idempotency"] = encode_record(commit.idempotency)
    if commit.decision_record is not None:
        message["decision_record"] = commit.decision_record.decode()
        message["decisions_expire_at"] = decision_record_pages.compute_expiry(get_job_day(job.id), retention.decisions)
    return message


def encode_record(record: IdempotencyRecord) -> dict[str, Any]:
    return {
        "fingerprint": record.fingerprint,
        "ttl_seconds": record.ttl_seconds,
        "is_body_key": record.is_body_key,
        "is_retry": record.is_retry,
        "awaits_first_request": record.awaits_first_request,
        "retry_count": record.retry_count,
        "caller_id": record.caller_id,
    }


def encode_entry(entry: LedgerEntry) -> dict[str, Any]:
    account = encode_total_account(ledger_account(entry), entry.key_id)
    encoded = {"data": _to_json(entry), "account": account, "amount": entry.amount, "images": entry.images}
    if entry.is_irregular:
        encoded["is_irregular"] = True
    return encoded


def encode_total_account(account: LedgerAccount, key_id: str) -> str:
    """Encodes whose total it is: the API key, quoted so that it has no bracket, and the account as a JSON array."""
    return quote(key_id, safe=":-._~/") + _to_json(account) if key_id else _to_json(account)


@lru_cache(maxsize=65_536)
def decode_total_account(text: bytes) -> tuple[LedgerAccount, str]:
    """Decodes an account and an API key, which is empty if the total has none."""
    key_id, bracket, rest = text.partition(b"[")
    return _account_decoder.decode(bracket + rest), unquote(key_id.decode())


def compute_expiry(day: str, retention_seconds: float) -> float:
    """Returns when the data of a day expires: `retention_seconds` after the end of its month."""
    month_end = datetime.fromisoformat(f"{day[:7]}-01").replace(tzinfo=UTC) + timedelta(days=31)
    return month_end.timestamp() + retention_seconds


def encode_budget_expiry(window: str, retention: Retention) -> dict[str, float]:
    """Encodes when a balance expires. Those of months never do: lifetime budgets are their sums."""
    is_day = len(window) == len("YYYY-MM-DD")
    return {"expires_at": compute_expiry(window, max(retention.totals, MIN_BUDGET_SECONDS))} if is_day else {}


def format_list_member(created_at: float, job_id: str) -> str:
    """Returns the member for a job in its team's list, which sorts by time and then by id."""
    return f"{created_at:017.6f}:{job_id}"


def parse_list_member(member: bytes) -> JobPosition:
    created_at, _, job_id = member.decode().partition(":")
    return JobPosition(float(created_at), job_id)


def decode_outcome(commit: Commit, reply: list[bytes]) -> CommitOutcome:
    match reply:
        case [b"applied"]:
            return Applied()
        case [b"version_conflict"]:
            return VersionConflict()
        case [b"lease_lost"]:
            return LeaseLost()
        case [b"duplicate_request", job_id]:
            return DuplicateRequest(job_id.decode())
        case [b"key_reused", job_id]:
            return IdempotencyKeyReused(job_id.decode())
        case [b"budget_exceeded", index, spent, held]:
            limit = commit.budget_limits[int(index) - 1]
            return BudgetExceeded(limit=limit, spent=int(spent), held=int(held))
    raise ValueError(f"Unexpected reply of the commit script: {reply!r}")


def decode_match(record: IdempotencyRecord, values: "list[bytes | None]") -> IdempotencyMatch | None:
    """Decodes the record of a client's key. Redis deletes the record when it expires."""
    fingerprint, job_id = values
    return match_fingerprint(record, fingerprint.decode(), job_id.decode()) if fingerprint and job_id else None


def decode_scores(reply: "list[bytes]") -> list[tuple[float, str]]:
    """Decodes a reply of alternating members and scores."""
    return [(float(score), member.decode()) for member, score in zip(reply[::2], reply[1::2], strict=True)]


def decode_milestones(lines: list[bytes]) -> tuple[Milestone, ...]:
    return tuple(_milestone_decoder.decode(line) for line in lines)


def decode_entries(lines: list[bytes]) -> tuple[LedgerEntry, ...]:
    """Decodes ledger entries. Raises StoreError if a newer version wrote an entry that this one cannot read."""
    try:
        return tuple(_entry_decoder.decode(line) for line in lines)
    except msgspec.MsgspecError:
        raise StoreError(
            "A ledger entry was written by a newer version and cannot be read by this version. Start the newer version."
        ) from None


def decode_delivery(data: bytes) -> WebhookDelivery:
    return _delivery_decoder.decode(data)


def decode_totals(period: str, reply: "list[bytes] | dict[bytes, bytes]") -> Iterator[LedgerTotal]:
    """Decodes the hash of a day or an hour: for each account and API key, a field with the amount and one with the
    images."""
    fields = _decode_hash(reply)
    for field, amount in fields.items():
        if field.startswith(b"amount:"):
            text = field.removeprefix(b"amount:")
            account, key_id = decode_total_account(text)
            images = int(fields.get(b"images:" + text, 0))
            yield LedgerTotal(period=period, account=account, key_id=key_id, amount=int(amount), images=images)


def encode_total(total: LedgerTotal) -> dict[str, Any]:
    encoded = {
        "account": encode_total_account(total.account, total.key_id),
        "amount": total.amount,
        "images": total.images,
    }
    return encoded if total.is_hourly else {**encoded, "day": total.day}


def decode_lifetime_totals(reply: "list[bytes] | dict[bytes, bytes]") -> tuple[LifetimeTotal, ...]:
    """Decodes a partition's hash: for each account, up to four fields."""
    fields = _decode_hash(reply)
    accounts = {field.partition(b":")[2] for field in fields if b":" in field}

    def get_number(name: bytes, account: bytes) -> int:
        return int(fields.get(name + account, 0))

    return tuple(
        LifetimeTotal(
            account=_account_decoder.decode(account),
            charged=get_number(b"charged_amount:", account),
            charged_images=get_number(b"charged_images:", account),
            corrected=get_number(b"corrected_amount:", account),
            corrected_images=get_number(b"corrected_images:", account),
        )
        for account in accounts
    )


def decode_balances(fields: "list[bytes]") -> dict[tuple[str, str], BudgetBalance]:
    """Decodes balances: four values for each."""
    return {
        (owner.decode(), window.decode()): BudgetBalance(held=int(held), spent=int(spent))
        for owner, window, held, spent in zip(*(fields[offset::4] for offset in range(4)), strict=True)
    }


def get_state_bounds(state: OpenState) -> tuple[float, float]:
    """Returns the first score of the open jobs in a state, and that of the next state. The score of a job is the first
    one plus the time of its creation, so that one sorted set counts the jobs of each state and finds the oldest."""
    number = list(OpenState).index(state)
    return number * _STATE_SECONDS, (number + 1) * _STATE_SECONDS


def _decode_hash(reply: "list[bytes] | dict[bytes, bytes]") -> dict[bytes, bytes]:
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
