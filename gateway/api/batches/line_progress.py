"""Which lines of a batch have their results stored."""

from msgspec.structs import replace

from gateway.api.batches.batch_records import BatchProgress
from gateway.api.batches.file_content import LinePosition

# A line that takes long holds up the lines this far behind it.
MAX_LINES_AHEAD = 1_000


class LineProgress:
    """The progress of one batch, as it is to be saved. Lines are written in any order.

    All lines that may be ordered are in `_ends`, in their order, until every line before them is written.
    """

    def __init__(self, progress: BatchProgress) -> None:
        self.saved = self.current = progress
        self._written = set(progress.written)
        self._ends: dict[int, int] = {}

    @property
    def is_saved(self) -> bool:
        return self.saved is self.current

    def start_line(self, number: int, end: int) -> bool:
        """Notes the next line of the file. Returns False if its result is stored already."""
        self._ends[number] = end
        if number in self._written:
            self._advance()
            return False
        return True

    def has_room(self) -> bool:
        return len(self._ends) < MAX_LINES_AHEAD

    def record_written(self, number: int, is_completed: bool, cost: int) -> None:
        self._written.add(number)
        self.current = replace(
            self.current,
            completed=self.current.completed + is_completed,
            failed=self.current.failed + (not is_completed),
            cost=self.current.cost + cost,
        )
        self._advance()

    def _advance(self) -> None:
        """Moves the position behind all lines that are written, without a gap."""
        position = self.current.position
        while self._ends and (number := next(iter(self._ends))) in self._written:
            position = LinePosition(number, self._ends.pop(number))
            self._written.discard(number)
        self.current = replace(self.current, position=position, written=tuple(sorted(self._written)))
