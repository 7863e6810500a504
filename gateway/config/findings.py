"""What a check that spans options or files has found, told only where everything it rests on was read as written."""

from collections.abc import Iterable

from msgspec import Struct

from gateway.config.loader import LoadedFiles
from gateway.config.yaml_nodes import Problem

OptionPath = tuple[str | int, ...]


class Finding(Struct, frozen=True):
    """Something wrong, the steps to where it stands, and to what else it rests on: otherwise it might be a follow-up.

    `path` is not among what it rests on where it is a block that only parts of matter of.
    """

    message: str
    path: OptionPath
    depends_on: tuple[OptionPath, ...] | None = None

    def is_reliable(self, loaded: LoadedFiles, file: str, parent_path: OptionPath) -> bool:
        depends_on = (self.path,) if self.depends_on is None else self.depends_on
        return all(loaded.is_reliable(file, *parent_path, *path) for path in depends_on)


def to_problems(loaded: LoadedFiles, file: str, findings: Iterable[Finding], *parent_path: str | int) -> list[Problem]:
    """The findings about what stands below these steps of a file."""
    return [
        Problem(loaded.locate(file, *parent_path, *finding.path), finding.message)
        for finding in findings
        if finding.is_reliable(loaded, file, parent_path)
    ]
