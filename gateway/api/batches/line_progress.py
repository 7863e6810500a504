"""The progress of a batch: which of its lines have a stored result."""

from gateway.api.batches.batch_records import BatchProgress
from gateway.api.batches.file_content import LinePosition

# How far the lines that are started may be ahead of the first one without a result.
MAX_LINES_AHEAD = 1_000


class LineProgress:
    """The progress of one batch. Lines are written in any order.

    `_ends`: the offset after each started line, from the first one that is not written, in the order of the file.
    """

    def __init__(self, progress: BatchProgress) -> None:
        self._position, self._written = progress.position, set(progress.written)
        self._completed, self._failed = progress.completed, progress.failed
        self.cost = progress.cost
        self._ends: dict[int, int] = {}
        self.has_changed = False

    def start_line(self, number: int, end: int) -> bool:
        """Registers the next line of the file. Returns False if its result is stored already."""
        self._ends[number] = end
        self._advance()
        return number not in self._written and number > self._position.line

    def has_room(self) -> bool:
        return len(self._ends) < MAX_LINES_AHEAD

    def record_written(self, number: int, is_completed: bool, cost: int) -> None:
        self._written.add(number)
        self._completed += is_completed
        self._failed += not is_completed
        self.cost += cost
        self.has_changed = True
        self._advance()

    def take_snapshot(self) -> BatchProgress:
        """Returns the progress, to be saved."""
        self.has_changed = False
        return BatchProgress(
            position=self._position,
            written=tuple(sorted(self._written)),
            completed=self._completed,
            failed=self._failed,
            cost=self.cost,
        )

    def _advance(self) -> None:
        """Moves the position to the first line that is not written."""
        while self._ends and (number := next(iter(self._ends))) in self._written:
            self._position = LinePosition(number, self._ends.pop(number))
            self._written.discard(number)
