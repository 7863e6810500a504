"""Commits jobs to the store, and reports how long that took and how it ended."""

from gateway.engine.engine_context import EngineContext
from gateway.events import CommitResult, StoreCommitted
from gateway.jobs.commit import Commit
from gateway.store.base import (
    Applied,
    BudgetExceeded,
    CommitOutcome,
    DuplicateRequest,
    IdempotencyKeyReused,
    LeaseLost,
    StoreError,
    StoreFull,
    StoreOutcomeUnknown,
    VersionConflict,
)

_RESULTS: dict[type[CommitOutcome], CommitResult] = {
    Applied: CommitResult.APPLIED,
    VersionConflict: CommitResult.CONFLICT,
    LeaseLost: CommitResult.LEASE_LOST,
    BudgetExceeded: CommitResult.BUDGET_EXCEEDED,
    DuplicateRequest: CommitResult.DUPLICATE,
    IdempotencyKeyReused: CommitResult.KEY_REUSED,
}


async def commit_job(context: EngineContext, commit: Commit) -> CommitOutcome:
    """Commits the job. Raises StoreUnavailable, as the store does."""
    started_at, result = context.monotonic(), CommitResult.UNAVAILABLE
    try:
        outcome = await context.store.commit(commit)
        result = _RESULTS[type(outcome)]
        return outcome
    except StoreError as error:
        result = _get_error_result(error)
        raise
    finally:
        context.emit(StoreCommitted(outcome=result, seconds=context.monotonic() - started_at))


def _get_error_result(error: StoreError) -> CommitResult:
    if isinstance(error, StoreOutcomeUnknown):
        return CommitResult.UNKNOWN
    return CommitResult.FULL if isinstance(error, StoreFull) else CommitResult.UNAVAILABLE
