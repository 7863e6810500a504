"""The story of one run: what happened when, line by line. The same seed always gives the same story."""

from collections.abc import Callable


class Story:
    """Records lines. `clock` returns the virtual time; the story counts from its start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started_at = clock()
        self.lines: list[str] = []

    def tell(self, who: str, what: str) -> None:
        self.lines.append(f"{self.seconds:10.4f}  {who:<12} {what}")

    @property
    def seconds(self) -> float:
        return self._clock() - self._started_at

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"
