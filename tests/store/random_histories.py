"""Thousands of random steps of jobs on one store, with every check after each step."""

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.store.store_harness import StoreHarness
from tests.store.store_state_machine import StoreStateMachine

MIN_STEPS = 5_000
# The number of steps of a run is random, so rounds are repeated until there are enough, up to a limit.
MAX_ROUNDS = 12
SETTINGS = settings(
    max_examples=15,
    stateful_step_count=50,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def run_state_machine(make_harness: Callable[[], StoreHarness], min_steps: int = MIN_STEPS) -> None:
    class Machine(StoreStateMachine):
        step_count = 0
        refused_count = 0

    Machine.harness = make_harness()
    try:
        for _ in range(MAX_ROUNDS):
            if Machine.step_count < min_steps:
                run_state_machine_as_test(Machine, settings=SETTINGS)
    finally:
        Machine.harness.close()
    assert Machine.step_count >= min_steps
    assert Machine.refused_count >= min_steps // 40
