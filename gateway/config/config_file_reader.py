"""Reads the files of a configuration folder once, so that the same bytes are compared, hashed and parsed."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from gateway.config.schema import CONFIG_FILES

MAX_FILE_BYTES = 256 << 10
OFFERS_FOLDER = "offers"
HASH_LENGTH = 12


class ConfigFiles(Struct, frozen=True):
    """Contents of a configuration folder.

    `unreadable`: error by file name; `unexpected`: YAML files that are not part of the configuration; `folder_error`:
    why the folder could not be read.
    """

    folder: str
    contents: Mapping[str, bytes] = {}
    unreadable: Mapping[str, str] = {}
    unexpected: tuple[str, ...] = ()
    folder_error: str | None = None

    @property
    def hash(self) -> str:
        """Short hash of the files. Every plan carries it."""
        digest = hashlib.sha256()
        for name, content in self.contents.items():
            digest.update(os.fsencode(name) + b"\0" + hashlib.sha256(content).digest())
        return digest.hexdigest()[:HASH_LENGTH]

    @property
    def sellers(self) -> dict[str, str]:
        """File name by seller."""
        names = sorted({*self.contents, *self.unreadable})
        return {Path(name).stem: name for name in names if name.startswith(f"{OFFERS_FOLDER}/")}


def read_folder(folder: Path) -> ConfigFiles:
    """Reads all files now. A file may be half written, so callers that can wait read twice."""
    try:
        top_level = _list_names(folder)
    except (FileNotFoundError, NotADirectoryError):
        return ConfigFiles(str(folder), folder_error="Folder not found. Name one with --config")
    except OSError as error:
        return ConfigFiles(str(folder), folder_error=f"Cannot be read: {error.strerror}")
    try:
        offers = [f"{OFFERS_FOLDER}/{name}" for name in _list_names(folder / OFFERS_FOLDER)]
    except OSError:
        # The loader reports that there are no offers.
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
            unreadable[name] = f"Cannot be read: {error.strerror}"
    return ConfigFiles(str(folder), contents, unreadable, tuple(unexpected))


def _list_names(folder: Path) -> list[str]:
    """Lists names without hidden files, which editors create while they write."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _is_yaml(name: str) -> bool:
    return name.lower().endswith((".yaml", ".yml"))


def _read_content(path: Path) -> bytes:
    """Reads one byte more than the maximum, so that the caller can detect a file that is too large."""
    if path.exists() and not path.is_file():
        raise OSError(0, "not a regular file")
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)
