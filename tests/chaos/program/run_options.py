"""The options of a chaos run, and how long it makes trouble."""

from enum import StrEnum
from pathlib import Path

from msgspec import Struct

# How many gateways are killed, and how many jobs ordered, per second at most. Both fit two slow processor cores.
MAX_KILLS_PER_SECOND, MAX_JOBS_PER_SECOND = 1.0, 7.0
MIN_TROUBLE_SECONDS = 12.0


class StoreKind(StrEnum):
    SQLITE = "sqlite"
    REDIS = "redis"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class RunOptions(Struct, frozen=True, kw_only=True):
    """`kills`: of gateways; the run lasts until there were as many. `store_kills`: of the store's server. `mutant`: the
    name of a deliberate bug that all gateways have, of those in `tests/explore/mutants.py`."""

    folder: Path
    store: StoreKind = StoreKind.REDIS
    jobs: int = 2_000
    kills: int = 300
    store_kills: int = 15
    seed: int = 1
    replicas: int = 3
    mutant: str | None = None

    @property
    def trouble_seconds(self) -> float:
        """The time over which jobs are ordered and processes are killed."""
        return max(MIN_TROUBLE_SECONDS, self.kills / MAX_KILLS_PER_SECOND, self.jobs / MAX_JOBS_PER_SECOND)

    @property
    def is_full(self) -> bool:
        """Whether there are so many kills that each failpoint that is passed with an adapter must have one."""
        return self.kills >= 300

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        mutant = f' MUTANT="{self.mutant}"' if self.mutant else ""
        return f"make chaos JOBS={self.jobs} KILLS={self.kills} STORE={self.store} SEED={self.seed}{mutant}"
