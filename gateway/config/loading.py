"""Reads a configuration folder: every file, every problem, in one run."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from gateway.config.block import Block
from gateway.config.blocks import FILES, OPTIONAL, Config, OfferFile
from gateway.config.checking import Checker, did_you_mean
from gateway.config.files import OFFERS, Files, files_in
from gateway.config.hiding import looks_secret
from gateway.config.located import NAMELESS, Node, Place, Problem, Unreadable, read

# What stands in for a part that is wrong, which is told already. None of it could stand in a file.
BLANKS: dict[str, Any] = {"models": {}, "accounts": {}, "policies": {}, "default": "", "offers": {}}
OFFER_BLANKS: dict[str, Any] = {"account": "", "adapter": "", "offers": {}}
# Where secrets are most likely to be pasted in the wrong place.
SECRETIVE = ("accounts.yaml",)
LITERAL = "looks like a secret: say where it is instead, with env:NAME or file:/path"


class Loaded(Struct, frozen=True):
    """What was read. Where there are problems, `config` holds only what is right; without a folder it is None."""

    config: Config | None
    problems: tuple[Problem, ...]
    nodes: Mapping[str, Node]
    files: Files
    unsure: Collection[tuple[Place, str]] = ()

    def place(self, file: str, *steps: str | int) -> Place:
        """Where the thing at the end of these steps stands, or the nearest thing above it that is there."""
        node = self.nodes.get(file)
        place = Place(f"{self.files.folder}/{file}", 1) if node is None else node.place
        for step in steps:
            inner = _inner(node, step)
            if inner is None:
                return place
            node, place = inner, inner.place
        return place

    def is_sure(self, file: str, *steps: str | int) -> bool:
        """Whether what was read there is what was written there, and nothing is told of it already."""
        told = {problem.place for problem in self.problems}
        node = self.nodes.get(file)
        for step in steps if told else ():
            inner = _inner(node, step)
            if inner is None:
                return node is not None and isinstance(node.value, dict) and not self._is_unsure(node, step, told)
            node = inner
        return not told or (node is not None and told.isdisjoint(_places(node)))

    def _is_unsure(self, block: Node, option: str | int, told: Collection[Place]) -> bool:
        """Whether an absent option may have been meant by something else that stands in its block."""
        nameless = {block.place.below(name, 0).path for name in NAMELESS}
        return (block.place, option) in self.unsure or any(place.path in nameless for place in told)

    def names(self, kind: str) -> Collection[str] | None:
        """Of all models, accounts, policies or teams, also those whose block is wrong. None if there is no telling."""
        file = f"{kind}.yaml"
        if file not in self.nodes:
            is_there = file in self.files.contents or file in self.files.unreadable
            return () if file in OPTIONAL and not is_there else None
        block = self.nodes[file].value
        if not isinstance(block, dict) or (kind not in block and file not in OPTIONAL):
            return None
        names = block[kind].value if kind in block else {}
        return names.keys() if isinstance(names, dict) else None


def _inner(node: Node | None, step: str | int) -> Node | None:
    if node is None:
        return None
    if isinstance(node.value, dict):
        return node.value.get(str(step))
    if isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
        return node.value[step]
    return None


def _places(node: Node) -> Iterator[Place]:
    yield node.place
    inner = node.value.values() if isinstance(node.value, dict) else node.value
    for one in inner if isinstance(inner, Iterable) and not isinstance(inner, str) else ():
        yield from _places(one)


def load(folder: Path) -> Loaded:
    return loaded(files_in(folder))


def loaded(files: Files) -> Loaded:
    return _Reader(files).run()


class _Reader:
    def __init__(self, files: Files) -> None:
        self.files = files
        self.checker = Checker()
        self.nodes: dict[str, Node] = {}

    def run(self) -> Loaded:
        if self.files.absent is not None:
            self.checker.wrong(Place(self.files.folder, 1), self.files.absent)
            return Loaded(None, tuple(self.checker.problems), {}, self.files)
        self._tell_strangers()
        blocks = {name.removesuffix(".yaml"): self._file(name, kind) for name, kind in FILES.items()}
        offers = {seller: self._offers(seller, name) for seller, name in self.files.sellers.items()}
        if not offers:
            self._wrong(OFFERS, "there is no offers/<seller>.yaml, so nobody sells anything")
        config = Config(offers=offers, hash=self.files.hash, **blocks)
        return Loaded(config, tuple(self.checker.problems), self.nodes, self.files, self.checker.unsure)

    def _wrong(self, file: str, message: str) -> None:
        self.checker.wrong(Place(f"{self.files.folder}/{file}", 1), message)

    def _tell_strangers(self) -> None:
        """A misspelt file would otherwise be ignored in silence."""
        for name in self.files.strangers:
            if name.startswith(f"{OFFERS}/"):
                self._wrong(name, "is not read: files of offers end in .yaml")
            else:
                self._wrong(name, f"is no file of this configuration{did_you_mean(name, FILES)}")

    def _file(self, name: str, kind: type[Block]) -> Any:
        values = self._read(name, kind)
        fields = kind.__struct_fields__
        return kind(**{field: blank for field, blank in BLANKS.items() if field in fields} | values)

    def _offers(self, seller: str, name: str) -> OfferFile:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", seller):
            self._wrong(name, "a file of offers is named after its seller, like runflow-runs.yaml")
        return OfferFile(**OFFER_BLANKS | self._read(name, OfferFile))

    def _read(self, name: str, kind: type[Block]) -> dict[str, Any]:
        if (reason := self.files.unreadable.get(name)) is not None:
            self._wrong(name, reason)
            return {}
        if (data := self.files.contents.get(name)) is None:
            if name not in OPTIONAL:
                self._wrong(name, "is missing")
            return {}
        try:
            parsed = read(data, f"{self.files.folder}/{name}")
        except Unreadable as error:
            self.checker.problems.append(error.problem)
            return {}
        self.nodes[name] = parsed.node
        self.checker.problems.extend(parsed.problems)
        values = self.checker.build_file(parsed.node, kind, is_quiet=name in SECRETIVE)
        self._tell_secrets(parsed.node)
        return values

    def _tell_secrets(self, root: Node) -> None:
        told = {problem.place for problem in self.checker.problems}
        for place in _secrets(root):
            if place not in told:
                self.checker.wrong(place, LITERAL)


def _secrets(node: Node, name: str = "") -> Iterator[Place]:
    """Where a name or a text looks like a secret."""
    if looks_secret(name) or looks_secret(node.text):
        yield node.place
    if isinstance(node.value, dict):
        for inner_name, inner in node.value.items():
            yield from _secrets(inner, inner_name)
    elif isinstance(node.value, list):
        for item in node.value:
            yield from _secrets(item)
