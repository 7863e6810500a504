"""The bytes of a configuration folder, taken once: what is compared, hashed and parsed is the same."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from gateway.config.blocks import FILES

MOST_BYTES = 256 << 10
OFFERS = "offers"
HASH_LENGTH = 12


class Files(Struct, frozen=True):
    """`unreadable` says why; `strangers` look like configuration but are no part of it; `absent`, if there is none."""

    folder: str
    contents: Mapping[str, bytes] = {}
    unreadable: Mapping[str, str] = {}
    strangers: tuple[str, ...] = ()
    absent: str | None = None

    @property
    def hash(self) -> str:
        """A short name for exactly these files: it stands on every plan."""
        digest = hashlib.sha256()
        for name, content in self.contents.items():
            digest.update(os.fsencode(name) + b"\0" + hashlib.sha256(content).digest())
        return digest.hexdigest()[:HASH_LENGTH]

    @property
    def sellers(self) -> dict[str, str]:
        """Each seller that has a file of offers, and that file."""
        names = sorted({*self.contents, *self.unreadable})
        return {Path(name).stem: name for name in names if name.startswith(f"{OFFERS}/")}


def files_in(folder: Path) -> Files:
    """Everything as it is at this moment. It may be half written: whoever can wait looks twice."""
    try:
        top = _listed(folder)
    except (FileNotFoundError, NotADirectoryError):
        return Files(str(folder), absent="there is no such folder; name one with --config")
    except OSError as error:
        return Files(str(folder), absent=f"cannot be read: {error.strerror}")
    try:
        offers = [f"{OFFERS}/{name}" for name in _listed(folder / OFFERS)]
    except OSError:
        # That nobody sells anything is told by whoever reads the files.
        offers = []
    known = [name for name in FILES if name in top] + [name for name in offers if name.endswith(".yaml")]
    strangers = [name for name in (*top, *offers) if _is_yaml(name) and name not in known]
    contents: dict[str, bytes] = {}
    unreadable: dict[str, str] = {}
    for name in known:
        try:
            contents[name] = _content(folder / name)
        except OSError as error:
            unreadable[name] = f"cannot be read: {error.strerror}"
    return Files(str(folder), contents, unreadable, tuple(strangers))


def _listed(folder: Path) -> list[str]:
    """Without hidden files: editors leave theirs there while they write."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _is_yaml(name: str) -> bool:
    return name.lower().endswith((".yaml", ".yml"))


def _content(path: Path) -> bytes:
    """One byte more than is allowed tells that there is too much."""
    if path.exists() and not path.is_file():
        raise OSError(0, "it is no file")
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)
