"""A thousand random steps of jobs on a store in memory, whose data is also the model.

This checks what the model does not take for granted: the numbers that follow from jobs and ledger, the audit, and that
a refused commit changes nothing.
"""

from gateway.store.job_watch import JobWatchers
from tests.harness.memory_store import MemoryState
from tests.store.random_histories import run_state_machine
from tests.store.store_harness import StoreHarness, make_memory_harness


def test_random_job_histories_in_memory() -> None:
    """The other replica with callers is alive all the time."""
    state = MemoryState()
    state.open_replica("two", JobWatchers())

    def make_harness() -> StoreHarness:
        return make_memory_harness(state)

    run_state_machine(make_harness, min_steps=1_000)
