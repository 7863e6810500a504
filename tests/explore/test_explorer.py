"""The explorer inside `make test`: thousands of runs of the engine, each with its own disturbances."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.explore.explorer import explore
from tests.explore.failpoints import list_failpoints

ROOT = Path(__file__).parents[2]
# In blocks, so that the test processes share them.
BLOCK, BLOCK_COUNT = 250, 8


@pytest.mark.parametrize("first", range(0, BLOCK * BLOCK_COUNT, BLOCK))
def test_explored_runs_lose_nothing_and_buy_nothing_twice(first: int) -> None:
    for seed in range(first, first + BLOCK):
        result = explore(seed)
        assert not result.violations, f"{result.story}\nReplay: make explore SEED={seed}"


@pytest.mark.thorough
def test_explorer_reaches_the_failpoints() -> None:
    reached = Counter[str]()
    for seed in range(600):
        reached.update(explore(seed).reached)
    assert list_failpoints() <= reached.keys()


def test_same_seed_gives_same_story() -> None:
    """Also in another process, where sets of texts have another order."""
    seeds = range(7_000, 7_010)
    loop = f"for seed in {list(seeds)}: print(explore(seed).story, end='')"
    script = f"from tests.explore.explorer import explore\n{loop}"
    stories = [
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env={"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert stories[0] == stories[1]
    assert stories[0].decode() == "".join(explore(seed).story for seed in seeds)
