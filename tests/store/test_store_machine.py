"""Five thousand steps of any life that jobs may have, on each kind of store, everything checked after each step."""

from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.store.machine import StoreMachine
from tests.store.worlds import World, sqlite_world

STEPS = 5_000
# How many steps a run has is up to chance, so there are as many rounds of runs as it takes, and a limit to them.
ROUNDS = 12
SETTINGS = settings(
    max_examples=15,
    stateful_step_count=50,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def did_enough(make: Callable[[], World]) -> None:
    class Machine(StoreMachine):
        steps = 0
        refused = 0

    Machine.world = make()
    try:
        for _ in range(ROUNDS):
            if Machine.steps < STEPS:
                run_state_machine_as_test(Machine, settings=SETTINGS)
    finally:
        Machine.world.close()
    assert Machine.steps >= STEPS
    assert Machine.refused >= STEPS // 40


def test_any_life_on_sqlite(tmp_path: Path) -> None:
    did_enough(lambda: sqlite_world(tmp_path))
