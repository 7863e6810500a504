"""The bytes of a configuration folder, taken once: what is compared, hashed and parsed is the same."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from gateway.config.schema import CONFIG_FILES

MAX_FILE_BYTES = 256 << 10
OFFERS_FOLDER = "offers"
HASH_LENGTH = 12


class SourceFiles(Struct, frozen=True):
    """`unreadable` says why; `unexpected` look like configuration but are no part of it; `folder_error`, if there is none."""

    folder: str
    contents: Mapping[str, bytes] = {}
    unreadable: Mapping[str, str] = {}
    unexpected: tuple[str, ...] = ()
    folder_error: str | None = None

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
        return {Path(name).stem: name for name in names if name.startswith(f"{OFFERS_FOLDER}/")}


def read_folder(folder: Path) -> SourceFiles:
    """Everything as it is at this moment. It may be half written: whoever can wait looks twice."""
    try:
        top_level = _list_names(folder)
    except (FileNotFoundError, NotADirectoryError):
        return SourceFiles(str(folder), folder_error="there is no such folder; name one with --config")
    except OSError as error:
        return SourceFiles(str(folder), folder_error=f"cannot be read: {error.strerror}")
    try:
        offers = [f"{OFFERS_FOLDER}/{name}" for name in _list_names(folder / OFFERS_FOLDER)]
    except OSError:
        # That nobody sells anything is told by whoever reads the files.
        offers = []
    expected = [name for name in CONFIG_FILES if name in top_level] + [
        name for name in offers if name.endswith(".yaml")
    ]
    unexpected = [name for name in (*top_level, *offers) if _is_yaml(name) and name not in expected]
    contents: dict[str, bytes] = {}
    unreadable: dict[str, str] = {}
    for name in expected:
        try:
            contents[name] = _read_content(folder / name)
        except OSError as error:
            unreadable[name] = f"cannot be read: {error.strerror}"
    return SourceFiles(str(folder), contents, unreadable, tuple(unexpected))


def _list_names(folder: Path) -> list[str]:
    """Without hidden files: editors leave theirs there while they write."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _is_yaml(name: str) -> bool:
    return name.lower().endswith((".yaml", ".yml"))


def _read_content(path: Path) -> bytes:
    """One byte more than is allowed tells that there is too much."""
    if path.exists() and not path.is_file():
        raise OSError(0, "it is no file")
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)
