"""A few runs of the explorer among the quick tests, so that a renamed field of the engine is noticed at once."""

from tests.explore.explorer import explore


def test_first_explored_runs_pass() -> None:
    for seed in range(40):
        result = explore(seed)
        assert not result.violations, result.story
