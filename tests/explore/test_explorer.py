"""The explorer inside `make test`: thousands of runs of the engine, each with its own troubles."""

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
# Reached only at shutdown, when inputs are uploaded, when days pass, or when a seller leaves the configuration.
FAILPOINTS_OF_OTHER_TESTS = {
    "disconnected_client_remover.DisconnectedClientRemover._remove_client -> store.remove_caller",
    "engine.Engine._delete_expired -> storage.delete_prefix",
    "engine.Engine._delete_expired -> store.delete_expired",
    "engine.Engine._delete_expired -> store.delete_job",
    "engine.Engine._delete_expired -> store.list_deletable_jobs",
    "engine.Engine._hand_over -> store.release_job",
    "engine.Engine._start_or_release -> store.release_job",
    "input_uploader.InputUploader._load_input -> storage.get",
    "input_uploader._upload_to_seller -> seller_client.send",
    "job_creation._build_saved_request -> store.announce_job",
    "job_creation._store_input -> storage.put",
    "unconfigured_job_release.JobReleaser._release_job -> store.release_job",
}


@pytest.mark.parametrize("first", range(0, BLOCK * BLOCK_COUNT, BLOCK))
def test_explored_runs_lose_nothing_and_buy_nothing_twice(first: int) -> None:
    for seed in range(first, first + BLOCK):
        result = explore(seed)
        assert not result.violations, f"{result.story}\nReplay: make explore SEED={seed}"


def test_explorer_reaches_the_failpoints() -> None:
    reached = Counter[str]()
    for seed in range(400):
        reached.update(explore(seed).reached)
    assert list_failpoints() - reached.keys() - FAILPOINTS_OF_OTHER_TESTS == set()


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
