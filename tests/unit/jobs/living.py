"""Jobs to test with: places and acceptances made by hand, and a life that holds each step against the invariants."""

from datetime import UTC, datetime
from typing import Any

from gateway.catalogue import Cell
from gateway.jobs.accepting import Acceptance, accept
from gateway.jobs.applying import Ignored
from gateway.jobs.commit import Commit, apply
from gateway.jobs.facts import (
    AnswerLost,
    AttemptOpened,
    Happening,
    OrderFailed,
    PicturesDelivered,
    PicturesReady,
    TicketLearned,
)
from gateway.jobs.job import Attempt, Job, PartState, Place, State, Trace
from gateway.jobs.tables import Line
from providers.faults import FaultKind
from providers.orders import Operation, Quality
from providers.sizes import Resolution
from tests.unit.jobs.invariants import Books

CELL = Cell(Operation.GENERATE, Resolution.ONE_K, Quality.HIGH)
START = datetime(2026, 11, 21, 10, tzinfo=UTC).timestamp()
PRICE = 100_000
CEILING = 150_000
SECONDS = 900.0
FENCE = 7


def place(seller: str = "runapi", **more: Any) -> Place:
    """Ten images an order, asked about by ticket, unless said otherwise."""
    plain: dict[str, Any] = {
        "seller": seller,
        "adapter": "runapi",
        "model": "gpt-image-2",
        "cell": CELL,
        "images": 10,
        "price": PRICE,
        "ceiling": CEILING,
        "patience": 420.0,
        "asks": True,
        "trace": Trace.NONE,
    }
    return Place(**(plain | more))


THREE_SELLERS = (place("runapi"), place("runflow-runs"), place("openai"))


def acceptance(n: int = 1, **more: Any) -> Acceptance:
    plain: dict[str, Any] = {"id": "job-1", "team": "design", "model": "gpt-image-2", "n": n, "route": THREE_SELLERS}
    return Acceptance(**(plain | {"seconds": SECONDS, "webhook": True} | more))


class Life:
    """One job from its acceptance on, and all that its commits ever moved. Seconds count from the acceptance."""

    def __init__(self, asked: Acceptance | None = None, start: float = START) -> None:
        self.start = start
        self.commits = [accept(asked or acceptance(), start)]
        self.books = Books(self.commits[0])

    @property
    def job(self) -> Job:
        return self.commits[-1].job

    @property
    def attempt(self) -> Attempt:
        """The latest."""
        return self.job.attempts[-1]

    def after(self, happening: Happening, seconds: float = 1.0) -> Commit:
        commit = apply(self.job, happening, self.start + seconds)
        assert isinstance(commit, Commit), commit
        self.books.add(commit)
        self.commits.append(commit)
        return commit

    def ignores(self, happening: Happening, seconds: float = 1.0) -> str:
        """That nothing changes, and why not."""
        ignored = apply(self.job, happening, self.start + seconds)
        assert isinstance(ignored, Ignored), ignored
        return ignored.why

    def opens(self, place: int = 0, images: tuple[int, ...] = (0,), seconds: float = 0.0) -> int:
        """The number of the attempt."""
        self.after(AttemptOpened(fence=FENCE, place=place, images=images), seconds)
        return len(self.job.attempts)

    def tickets(self, place: int = 0, images: tuple[int, ...] = (0,)) -> int:
        number = self.opens(place, images)
        self.after(TicketLearned(attempt=number, ticket=f"run-{number}"))
        return number

    def loses(self, place: int = 0, images: tuple[int, ...] = (0,), seconds: float = 1.0) -> int:
        number = self.opens(place, images)
        self.after(AnswerLost(attempt=number), seconds)
        return number

    def delivers(self, images: tuple[int, ...] = (0,), seconds: float = 2.0, **more: Any) -> Commit:
        return self.after(PicturesDelivered(attempt=len(self.job.attempts), images=images, **more), seconds)

    def fails(self, kind: FaultKind, seconds: float = 2.0, **more: Any) -> Commit:
        return self.after(OrderFailed(attempt=len(self.job.attempts), kind=kind, **more), seconds)

    def readies(self, seconds: float = 2.0, **more: Any) -> Commit:
        return self.after(PicturesReady(attempt=len(self.job.attempts), **more), seconds)

    def images(self, state: PartState) -> list[int]:
        return sorted(image for part in self.job.parts if part.state is state for image in part.images)

    def money(self) -> dict[Line, int]:
        """The ledger in sum, without lines that cancel out."""
        return {line: amount for line in Line if (amount := self.books.on_line(line))}

    def ended(self) -> tuple[State, bool]:
        return self.job.state, self.job.is_settled
