"""The program behind `make chaos`, in a size for each run of the tests."""

from pathlib import Path

import pytest

from tests.chaos.program.chaos_run import ChaosRun
from tests.chaos.program.run_options import RunOptions, StoreKind


def check_run(options: RunOptions) -> None:
    """Makes a run. Its audit finds nothing."""
    result = ChaosRun(options, print).run()
    print("\n".join(result.lines))
    assert result.is_good, result.audit.last_line


@pytest.mark.in_quick_run
def test_kills_of_gateways_and_redis_lose_and_repeat_nothing(tmp_path: Path) -> None:
    check_run(RunOptions(folder=tmp_path, jobs=100, kills=30, store_kills=2, seed=1))


@pytest.mark.thorough
def test_kills_of_a_gateway_on_sqlite_lose_and_repeat_nothing(tmp_path: Path) -> None:
    check_run(RunOptions(folder=tmp_path, store=StoreKind.SQLITE, jobs=60, kills=12, store_kills=0, seed=1))


@pytest.mark.thorough
@pytest.mark.parametrize("store", [StoreKind.SENTINEL, StoreKind.CLUSTER])
def test_replaced_primaries_lose_and_repeat_nothing(store: StoreKind, tmp_path: Path) -> None:
    check_run(RunOptions(folder=tmp_path, store=store, jobs=100, kills=20, store_kills=3, seed=1))


@pytest.mark.thorough
def test_audit_finds_a_deliberate_bug(tmp_path: Path) -> None:
    options = RunOptions(folder=tmp_path, jobs=100, kills=12, store_kills=1, seed=1, mutant="random idempotency key")
    result = ChaosRun(options, print).run()
    print("\n".join(result.lines))
    assert not result.is_good
    assert result.audit.repeated_purchases
