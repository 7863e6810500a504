"""The base of fuzzers: makes the same mutations in every run."""

import random
from collections.abc import Sequence


class ByteFuzzer:
    """Mutates bytes: truncates them, inserts some of `odd_bytes`, or changes single bytes."""

    def __init__(self, seed: int, odd_bytes: Sequence[bytes]) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self._odd_bytes = odd_bytes

    def draw_change_count(self) -> int:
        return self.random.choice((0, 1, 1, 1, 2, 3))

    def corrupt_sometimes(self, data: bytes, start: int = 0) -> bytes:
        """Corrupts two in five. Leaves everything before `start` as it is."""
        return self._corrupt_bytes(data, start) if self.random.random() < 0.4 else data

    def _corrupt_bytes(self, data: bytes, start: int) -> bytes:
        position, kind = self.random.randrange(start, len(data) + 1), self.random.random()
        if kind < 0.3:
            return data[:position]
        if kind < 0.7:
            inserted = self.random.choice(self._odd_bytes) * self.random.choice((1, 1, 2, 40))
            return data[:position] + inserted + data[position:]
        flipped = bytearray(data)
        for _ in range(self.random.choice((1, 3, 20))):
            flipped[self.random.randrange(start, len(flipped))] = self.random.randrange(256)
        return bytes(flipped)
