"""Results of checks that span options or files. A finding is reported only if everything that it depends on was read
without problems."""

from collections.abc import Iterable

from msgspec import Struct

from gateway.config.loader import LoadedFiles
from gateway.config.yaml_nodes import Problem

OptionPath = tuple[str | int, ...]


class Finding(Struct, frozen=True):
    """A problem, the path of its option, and the paths that it depends on.

    `depends_on` omits `path` where only parts of that block matter.
    """

    message: str
    path: OptionPath
    depends_on: tuple[OptionPath, ...] | None = None

    def is_reliable(self, loaded: LoadedFiles, file: str, parent_path: OptionPath) -> bool:
        depends_on = (self.path,) if self.depends_on is None else self.depends_on
        return all(loaded.is_reliable(file, *parent_path, *path) for path in depends_on)


def to_problems(loaded: LoadedFiles, file: str, findings: Iterable[Finding], *parent_path: str | int) -> list[Problem]:
    """Converts findings below these path elements of a file to problems, without the unreliable ones."""
    return [
        Problem(loaded.locate(file, *parent_path, *finding.path), finding.message)
        for finding in findings
        if finding.is_reliable(loaded, file, parent_path)
    ]
