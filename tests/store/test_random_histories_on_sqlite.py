"""Random steps of jobs on SQLite, with all invariants checked after each step."""

from pathlib import Path

import pytest

from tests.store.random_histories import MIN_STEPS, run_state_machine
from tests.store.store_harness import make_sqlite_harness


@pytest.mark.parametrize("min_steps", [300, pytest.param(MIN_STEPS, marks=pytest.mark.thorough)])
def test_random_job_histories_on_sqlite(tmp_path: Path, min_steps: int) -> None:
    run_state_machine(lambda: make_sqlite_harness(tmp_path), min_steps)
