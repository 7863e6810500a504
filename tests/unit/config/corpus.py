"""Reads `broken/*.txt`: small changes to `base.py`, and every problem that an operator must be told of each.

A case is `# name`, `@ file`, then what is done to the file, then `! file:line: where: what` for each problem. What is
done: `-` lines are replaced by `+` lines, or `=` lines are the whole file, or `x`: there is no such file.
"""

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "broken"


class Case(NamedTuple):
    name: str
    file: str
    old: str
    new: str | None
    told: tuple[str, ...]

    def apply(self, files: dict[str, str]) -> dict[str, str]:
        changed = {name: text for name, text in files.items() if name != self.file}
        if self.new is None:
            return changed
        before = files.get(self.file, "")
        assert self.old in before, f"{self.name}: the text to replace is not there"
        return changed | {self.file: before.replace(self.old, self.new, 1) if self.old else self.new}


def cases() -> list[Case]:
    return [_case(text) for path in sorted(FOLDER.glob("*.txt")) for text in path.read_text().split("\n\n")]


def _case(text: str) -> Case:
    lines = text.strip("\n").split("\n")
    marked = {mark: [line[2:] for line in lines if line[:1] == mark] for mark in "#@-+=!x"}
    new = None if marked["x"] else "\n".join(marked["+"] or marked["="])
    return Case(marked["#"][0], marked["@"][0], "\n".join(marked["-"]), new, tuple(marked["!"]))
