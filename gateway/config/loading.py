"""Reads a configuration folder: every file, every problem, in one run."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from gateway.config.blocks import FILES, OPTIONAL, Config, OfferFile
from gateway.config.checking import MISSING, Checker, did_you_mean
from gateway.config.located import Node, Place, Problem, Unreadable, read

OFFERS = "offers"
HASH_LENGTH = 12


class Loaded(Struct, frozen=True):
    """What was read. `config` is None if any file was not valid by itself."""

    config: Config | None
    problems: tuple[Problem, ...]
    nodes: Mapping[str, Node]
    folder: str

    def place(self, file: str, *steps: str | int) -> Place:
        """Where the thing at the end of these steps stands, or the nearest thing above it that is there."""
        node = self.nodes.get(file)
        place = Place(f"{self.folder}/{file}", 1) if node is None else node.place
        for step in steps:
            inner = _inner(node, step)
            if inner is None:
                return place
            node, place = inner, inner.place
        return place


def _inner(node: Node | None, step: str | int) -> Node | None:
    if node is None:
        return None
    if isinstance(node.value, dict):
        return node.value.get(str(step))
    if isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
        return node.value[step]
    return None


def load(folder: Path) -> Loaded:
    reader = _Reader(folder)
    return reader.run()


def files_of(folder: Path) -> list[Path]:
    """Every file that belongs to the configuration, in a fixed order."""
    offers = sorted((folder / OFFERS).glob("*.yaml"))
    return [path for name in FILES if (path := folder / name).exists()] + offers


def hash_of(folder: Path) -> str:
    """A short name for exactly these files: it stands on every plan."""
    digest = hashlib.sha256()
    for path in files_of(folder):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:HASH_LENGTH]


class _Reader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checker = Checker()
        self.nodes: dict[str, Node] = {}

    def run(self) -> Loaded:
        config = None
        if self._is_folder():
            self._look_for_strangers()
            blocks = {name: self._file(name, kind) for name, kind in FILES.items()}
            offers = {path.stem: self._offers(path) for path in sorted((self.folder / OFFERS).glob("*.yaml"))}
            if not offers:
                self._wrong(OFFERS, "there is no offers/<seller>.yaml, so nobody sells anything")
            if not self.checker.problems:
                named = {name.removesuffix(".yaml"): block for name, block in blocks.items()}
                config = Config(offers=offers, hash=hash_of(self.folder), **named)  # type: ignore[arg-type]
        return Loaded(config, tuple(self.checker.problems), self.nodes, str(self.folder))

    def _is_folder(self) -> bool:
        if not self.folder.is_dir():
            self.checker.wrong(Place(str(self.folder), 1), "there is no such folder; name one with --config")
            return False
        return True

    def _wrong(self, file: str, message: str) -> object:
        return self.checker.wrong(Place(f"{self.folder}/{file}", 1), message)

    def _look_for_strangers(self) -> None:
        """A misspelt file would otherwise be ignored in silence."""
        for path in sorted(self.folder.iterdir()):
            if path.suffix in (".yaml", ".yml") and path.name not in FILES:
                self._wrong(path.name, f"is no file of this configuration{did_you_mean(path.name, FILES)}")
        for path in sorted((self.folder / OFFERS).glob("*.yml")):
            self._wrong(f"{OFFERS}/{path.name}", "is not read: files of offers end in .yaml")

    def _file(self, name: str, kind: type) -> object:
        if not (self.folder / name).exists():
            return kind() if name in OPTIONAL else self._wrong(name, "is missing")
        return self._read(name, kind)

    def _offers(self, path: Path) -> OfferFile:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", path.stem):
            self._wrong(f"{OFFERS}/{path.name}", "a file of offers is named after its seller, like runflow-runs.yaml")
        return self._read(f"{OFFERS}/{path.name}", OfferFile)  # type: ignore[return-value]

    def _read(self, name: str, kind: type) -> object:
        try:
            node = self.nodes[name] = read(self.folder / name, f"{self.folder}/{name}")
        except Unreadable as error:
            self.checker.problems.extend(error.problems)
            return MISSING
        return self.checker.build(node, kind)
