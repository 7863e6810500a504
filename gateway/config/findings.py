"""What a check that spans options or files has found, told only where everything it rests on was read as written."""

from collections.abc import Iterable

from msgspec import Struct

from gateway.config.loading import Loaded
from gateway.config.located import Problem

Steps = tuple[str | int, ...]


class Finding(Struct, frozen=True):
    """Something wrong, the steps to where it stands, and to what else it rests on: otherwise it might be a follow-up.

    `at` is not among what it rests on where it is a block that only parts of matter of.
    """

    message: str
    at: Steps
    rests_on: tuple[Steps, ...] | None = None

    def is_sure(self, loaded: Loaded, file: str, above: Steps) -> bool:
        rests_on = (self.at,) if self.rests_on is None else self.rests_on
        return all(loaded.is_sure(file, *above, *steps) for steps in rests_on)


def problems_in(loaded: Loaded, file: str, findings: Iterable[Finding], *above: str | int) -> list[Problem]:
    """The findings about what stands below these steps of a file."""
    return [
        Problem(loaded.place(file, *above, *finding.at), finding.message)
        for finding in findings
        if finding.is_sure(loaded, file, above)
    ]
