"""The result of inspecting a store, which changes nothing and needs no gateway."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

Durability = Literal["checked", "declared"]
Clock = Callable[[], float]


class StoreProblem(Struct, frozen=True):
    """One problem, and what to do about it. `loses_jobs`: jobs would be lost, or are."""

    message: str
    remedy: str = ""
    loses_jobs: bool = False

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


class ClockSample(Struct, frozen=True):
    """The clock of another machine: it is ahead of the local one by `offset` seconds, plus or minus `uncertainty`."""

    source: str
    offset: float
    uncertainty: float

    @classmethod
    def measure(cls, source: str, remote_time: float, sent_at: float, received_at: float) -> "ClockSample":
        """Compares a time that the other machine read between two local times."""
        return cls(source, remote_time - (sent_at + received_at) / 2, (received_at - sent_at) / 2)


class StoreInspection(Struct, frozen=True, kw_only=True):
    """A store that was reached. `description`: in a few words, such as `Redis 7.2.4`."""

    description: str
    problems: tuple[StoreProblem, ...] = ()
    clock_samples: tuple[ClockSample, ...] = ()
