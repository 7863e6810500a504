"""Reads `broken/*.txt`: small changes to the sample configuration, and every problem that must be reported for each.

A case is `# name`, `@ file`, the change of the file, then `! file:line: option: message` for each problem. Changes: `-`
lines are replaced by `+` lines, or `=` lines are the whole file, or `x` deletes the file.
"""

from pathlib import Path
from typing import NamedTuple

CASES_FOLDER = Path(__file__).parent / "broken"


class BrokenConfigCase(NamedTuple):
    name: str
    file: str
    old: str
    new: str | None
    expected_problems: tuple[str, ...]

    def apply(self, files: dict[str, str]) -> dict[str, str]:
        changed = {name: text for name, text in files.items() if name != self.file}
        if self.new is None:
            return changed
        original = files.get(self.file, "")
        assert self.old in original, f"{self.name}: the text to replace is missing"
        return changed | {self.file: original.replace(self.old, self.new, 1) if self.old else self.new}


def load_cases() -> list[BrokenConfigCase]:
    return [_parse_case(text) for path in sorted(CASES_FOLDER.glob("*.txt")) for text in path.read_text().split("\n\n")]


def _parse_case(text: str) -> BrokenConfigCase:
    lines = text.strip("\n").split("\n")
    marked = {mark: [line[2:] for line in lines if line[:1] == mark] for mark in "#@-+=!x"}
    new = None if marked["x"] else "\n".join(marked["+"] or marked["="])
    return BrokenConfigCase(marked["#"][0], marked["@"][0], "\n".join(marked["-"]), new, tuple(marked["!"]))
