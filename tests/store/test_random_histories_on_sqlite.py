"""Five thousand random steps of jobs on SQLite, with all invariants checked after each step."""

from pathlib import Path

from tests.store.random_histories import run_state_machine
from tests.store.store_harness import make_sqlite_harness


def test_random_job_histories_on_sqlite(tmp_path: Path) -> None:
    run_state_machine(lambda: make_sqlite_harness(tmp_path))
