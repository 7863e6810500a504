"""Direct access to the data of a store in memory."""

from typing import Any

from msgspec.structs import replace

from gateway.jobs.commit import LedgerEntry
from gateway.store.ledger_totals import BudgetBalance
from tests.harness.memory_store import MemoryState
from tests.harness.memory_store.memory_decision_records import MemoryDecisionRecords
from tests.harness.memory_store.memory_ledger import MemoryLedger
from tests.harness.memory_store.memory_state import StoredDelivery, StoredJob
from tests.harness.memory_store.request_keys import RequestKeys, StoredBodyEntry, StoredKey

MUTABLE_RECORDS = (
    MemoryLedger | MemoryDecisionRecords | RequestKeys | StoredJob | StoredDelivery | StoredBodyEntry | StoredKey
)
# They belong to no job.
FIELDS_OF_REPLICAS = {"replicas", "closed_marks", "heartbeats", "_replica_numbers"}


class RawMemory:
    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def close(self) -> None:
        pass

    def delete_everything(self) -> None:
        """Deletes all data. The replicas stay open."""
        empty = vars(MemoryState(self._state.partition_count))
        vars(self._state).update({name: value for name, value in empty.items() if name not in FIELDS_OF_REPLICAS})

    def undo_close(self, replica_id: str, now: float) -> None:
        del self._state.closed_marks[replica_id]
        self._state.heartbeats[replica_id] = now

    def dump_everything(self) -> Any:
        return {name: _copy(value) for name, value in vars(self._state).items() if name not in FIELDS_OF_REPLICAS}

    def read_due_times(self) -> dict[str, float]:
        return dict(self._state.due_times)

    def read_balances(self) -> dict[tuple[str, str], BudgetBalance]:
        return dict(self._state.ledger.balances)

    def read_ledger(self) -> tuple[LedgerEntry, ...]:
        return tuple(self._state.ledger.entries)

    def expire_keys(self, seconds: float, now: float) -> None:
        """Does nothing: only the store deletes expired data, by its own clock."""

    def delete_due_entry(self, job_id: str) -> None:
        del self._state.due_times[job_id]

    def insert_due_entry(self, job_id: str) -> None:
        self._state.due_times[job_id] = 0.0

    def delete_open_entry(self, job_id: str) -> None:
        self._state.jobs[job_id].settled_at = 1.0

    def insert_open_entry(self, job_id: str) -> None:
        self._state.jobs[job_id].settled_at = None

    def delete_job(self, job_id: str) -> None:
        del self._state.jobs[job_id]

    def change_balance(self, owner: str, window: str, held: int = 0, spent: int = 0) -> None:
        assert (owner, window) in self._state.ledger.balances
        self._state.ledger.change_balance(owner, window, held, spent)

    def delete_ledger_entries(self, job_id: str) -> int:
        ledger = self._state.ledger
        remaining = [entry for entry in ledger.entries if entry.job != job_id]
        deleted_count = len(ledger.entries) - len(remaining)
        ledger.entries = remaining
        return deleted_count

    def change_totals(self, period: str, amount: int) -> None:
        totals = self._state.ledger.totals
        keys = [key for key in totals if key[0] == period]
        assert keys
        totals.update({key: replace(totals[key], amount=totals[key].amount + amount) for key in keys})

    def delete_statistics(self) -> None:
        self._state.ledger.counted_totals, self._state.ledger.lifetime_totals = {}, {}


def _copy(value: Any) -> Any:
    """Copies everything that the store changes in place. All other values are immutable."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return _copy(vars(value)) if isinstance(value, MUTABLE_RECORDS) else value
