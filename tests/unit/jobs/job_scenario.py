"""Jobs for tests: route entries, new jobs, and a scenario that checks every commit against the invariants."""

from datetime import UTC, datetime
from typing import Any

from gateway.jobs.commit import Commit, build_update_commit
from gateway.jobs.first_commit import NewJob, build_first_commit
from gateway.jobs.job import Attempt, Job, JobState, PartState, RecoveryMethod, RouteEntry
from gateway.jobs.job_update_types import (
    AttemptStarted,
    ImagesReady,
    ImagesStored,
    JobUpdate,
    OrderFailed,
    ResponseLost,
    TicketReceived,
)
from gateway.jobs.transition_tables import LedgerLine
from gateway.jobs.transitions import Ignored
from providers.faults import FaultKind
from providers.orders import Cell, Operation
from tests.unit.jobs.job_invariants import CommitTotals

CELL = Cell(Operation.GENERATE, "1k", "high")
START = datetime(2026, 11, 21, 10, tzinfo=UTC).timestamp()
PRICE = 100_000
CEILING = 150_000
DEADLINE_SECONDS = 900.0
FENCE = 7


def make_route_entry(seller: str = "runapi", **changes: Any) -> RouteEntry:
    """Returns a route entry for ten images per order whose orders can be polled, with changes."""
    defaults: dict[str, Any] = {
        "seller": seller,
        "adapter": "runapi",
        "model": "gpt-image-2",
        "cell": CELL,
        "max_images": 10,
        "price": PRICE,
        "ceiling": CEILING,
        "timeout_seconds": 420.0,
        "is_pollable": True,
        "recovery_method": RecoveryMethod.NONE,
    }
    return RouteEntry(**(defaults | changes))


THREE_SELLERS = (make_route_entry("runapi"), make_route_entry("runflow-runs"), make_route_entry("openai"))


def make_new_job(n: int = 1, **changes: Any) -> NewJob:
    defaults: dict[str, Any] = {"id": "job-1", "team": "design", "model": "gpt-image-2", "n": n, "route": THREE_SELLERS}
    return NewJob(**(defaults | {"deadline_seconds": DEADLINE_SECONDS, "has_webhook": True} | changes))


class JobScenario:
    """One job from its creation, and the totals of its commits. Seconds count from the creation."""

    def __init__(self, new_job: NewJob | None = None, started_at: float = START) -> None:
        self.started_at = started_at
        self.commits = [build_first_commit(new_job or make_new_job(), started_at)]
        self.totals = CommitTotals(self.commits[0])

    @property
    def job(self) -> Job:
        return self.commits[-1].job

    @property
    def last_attempt(self) -> Attempt:
        """The attempt started last."""
        return self.job.attempts[-1]

    def apply(self, update: JobUpdate, seconds: float = 1.0) -> Commit:
        commit = build_update_commit(self.job, update, self.started_at + seconds)
        assert isinstance(commit, Commit), commit
        self.totals.add_commit(commit)
        self.commits.append(commit)
        return commit

    def expect_ignored(self, update: JobUpdate, seconds: float = 1.0) -> str:
        """Asserts that the update is ignored; returns the reason."""
        ignored = build_update_commit(self.job, update, self.started_at + seconds)
        assert isinstance(ignored, Ignored), ignored
        return ignored.reason

    def start_attempt(self, route_index: int = 0, images: tuple[int, ...] = (0,), seconds: float = 0.0) -> int:
        """Starts an attempt; returns its number."""
        self.apply(AttemptStarted(fence=FENCE, route_index=route_index, images=images), seconds)
        return len(self.job.attempts)

    def receive_ticket(self, route_index: int = 0, images: tuple[int, ...] = (0,)) -> int:
        number = self.start_attempt(route_index, images)
        self.apply(TicketReceived(attempt=number, ticket=f"run-{number}"))
        return number

    def lose_response(self, route_index: int = 0, images: tuple[int, ...] = (0,), seconds: float = 1.0) -> int:
        number = self.start_attempt(route_index, images)
        self.apply(ResponseLost(attempt=number), seconds)
        return number

    def store_images(self, images: tuple[int, ...] = (0,), seconds: float = 2.0, **changes: Any) -> Commit:
        return self.apply(ImagesStored(attempt=len(self.job.attempts), images=images, **changes), seconds)

    def fail_order(self, fault: FaultKind, seconds: float = 2.0, **changes: Any) -> Commit:
        return self.apply(OrderFailed(attempt=len(self.job.attempts), fault=fault, **changes), seconds)

    def report_images_ready(self, seconds: float = 2.0, **changes: Any) -> Commit:
        return self.apply(ImagesReady(attempt=len(self.job.attempts), **changes), seconds)

    def list_images(self, state: PartState) -> list[int]:
        return sorted(image for part in self.job.parts if part.state is state for image in part.images)

    def sum_ledger(self) -> dict[LedgerLine, int]:
        """Returns the sum of each ledger line that is not zero."""
        return {line: amount for line in LedgerLine if (amount := self.totals.sum_line(line))}

    def get_outcome(self) -> tuple[JobState, bool]:
        return self.job.state, self.job.is_settled
