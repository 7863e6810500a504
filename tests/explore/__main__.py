"""Explores many seeds, or prints the story of one: `python -m tests.explore --runs 100000`, `--seed 1234`."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.explore.explorer import RunResult, explore
from tests.explore.failpoints import list_failpoints

CHUNK = 50


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.explore", description=__doc__)
    parser.add_argument("--seed", type=int, help="print the story of this run")
    parser.add_argument("--runs", type=int, default=2_000, help="how many seeds to explore")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.seed is not None:
        result = explore(arguments.seed)
        print(result.story, end="")
        sys.exit(bool(result.violations))
    sys.exit(_explore_many(range(arguments.first, arguments.first + arguments.runs), arguments.processes))


def _explore_many(seeds: range, processes: int) -> bool:
    """Explores the seeds and prints a summary. Returns whether a run failed."""
    started_at, failed, reached, done_count = time.monotonic(), [], Counter[str](), 0
    for result in _iterate_results(seeds, processes):
        done_count += 1
        reached.update(result.reached)
        if result.violations:
            failed.append(result)
            print(f"seed {result.seed}: {result.violations[0]}", flush=True)
    seconds = time.monotonic() - started_at
    covered = list_failpoints() & reached.keys()
    print(f"{done_count} runs in {seconds:.0f} s, {len(failed)} failed.")
    print(f"{len(covered)} of {len(list_failpoints())} failpoints reached.")
    for failpoint in sorted(list_failpoints() - covered):
        print(f"  not reached: {failpoint}")
    if failed:
        print(f"\nThe story of seed {failed[0].seed}, replayed by `make explore SEED={failed[0].seed}`:\n")
        print(failed[0].story, end="")
    return bool(failed)


def _iterate_results(seeds: range, processes: int) -> Iterator[RunResult]:
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(explore, seeds, chunksize=CHUNK)


if __name__ == "__main__":
    main()
