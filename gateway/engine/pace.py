"""When to ask about an order: near the time it is expected, then ever more seldom, or when the seller says."""

FIRST_SHARE = 0.8
SHARE = 0.12
SHORTEST, LONGEST = 0.2, 10.0
GROWTH = 1.3
LONGEST_WISH = 60.0


class Pace:
    """`expected`: seconds after which half of such orders are done; `age`: seconds since this one was placed."""

    def __init__(self, expected: float, age: float = 0.0) -> None:
        # Another replica's clock may be ahead of ours.
        age = max(age, 0.0)
        self._pause = min(max(expected * SHARE, SHORTEST), LONGEST)
        self._first = max(expected * FIRST_SHARE - age, 0.0) if age < expected else 0.0
        self._is_first = True

    def next_pause(self, wish: float | None = None) -> float:
        """Seconds until the next question. `wish` is the seller's own, clamped to what makes sense."""
        if self._is_first:
            self._is_first = False
            return max(self._first, min(wish or 0.0, LONGEST_WISH))
        pause = self._pause
        self._pause = min(self._pause * GROWTH, LONGEST)
        return pause if wish is None else min(max(wish, SHORTEST), LONGEST_WISH)
