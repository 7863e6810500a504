"""The clock follows the system clock without jumps."""

import pytest

from gateway.slewing_clock import MAX_SLEW_RATIO, SlewingClock


class FakeMachine:
    """A machine with a wall clock and a monotonic clock."""

    def __init__(self) -> None:
        self.wall_time, self.monotonic_time = 1_000_000.0, 50.0
        self.slewing_clock = SlewingClock(lambda: self.wall_time, lambda: self.monotonic_time)

    def pass_time(self, seconds: float) -> float:
        self.wall_time += seconds
        self.monotonic_time += seconds
        return self.slewing_clock()


def test_clock_follows_machine_time() -> None:
    machine = FakeMachine()
    assert machine.slewing_clock() == 1_000_000.0
    assert machine.pass_time(3.5) == pytest.approx(1_000_003.5)


@pytest.mark.parametrize("jump", [600.0, -600.0, 86_400.0, -3_600.0])
def test_jump_is_slewed_and_time_never_goes_back(jump: float) -> None:
    machine = FakeMachine()
    before = machine.slewing_clock()
    machine.wall_time += jump
    assert machine.slewing_clock() == before
    for _ in range(100):
        after = machine.pass_time(0.5)
        assert after - before + 1e-6 >= 0.5 * (1 - MAX_SLEW_RATIO)
        assert after - before <= 0.5 * (1 + MAX_SLEW_RATIO) + 1e-6
        before = after


@pytest.mark.parametrize("jump", [60.0, -60.0])
def test_clock_catches_up_with_machine_clock(jump: float) -> None:
    machine = FakeMachine()
    machine.wall_time += jump
    for _ in range(60):
        machine.pass_time(1 / MAX_SLEW_RATIO)
    assert machine.pass_time(1.0) == pytest.approx(machine.wall_time)
