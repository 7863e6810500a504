"""A clock that the machine's clock can lead, but not push."""

import pytest

from gateway.clock import SHARE, SteadyClock


class Machine:
    """Both of its clocks."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_000_000.0, 50.0
        self.steady = SteadyClock(lambda: self.wall, lambda: self.monotonic)

    def passes(self, seconds: float) -> float:
        self.wall += seconds
        self.monotonic += seconds
        return self.steady()


def test_it_tells_the_machines_time() -> None:
    machine = Machine()
    assert machine.steady() == 1_000_000.0
    assert machine.passes(3.5) == pytest.approx(1_000_003.5)


@pytest.mark.parametrize("jump", [600.0, -600.0, 86_400.0, -3_600.0])
def test_a_jump_moves_it_by_a_share_of_the_time_that_passes_and_never_back(jump: float) -> None:
    machine = Machine()
    before = machine.steady()
    machine.wall += jump
    assert machine.steady() == before
    for _ in range(100):
        after = machine.passes(0.5)
        assert after - before + 1e-6 >= 0.5 * (1 - SHARE)
        assert after - before <= 0.5 * (1 + SHARE) + 1e-6
        before = after


@pytest.mark.parametrize("jump", [60.0, -60.0])
def test_it_follows_in_the_end(jump: float) -> None:
    machine = Machine()
    machine.wall += jump
    for _ in range(60):
        machine.passes(1 / SHARE)
    assert machine.passes(1.0) == pytest.approx(machine.wall)
