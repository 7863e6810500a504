"""Reads a configuration folder: every file, every problem, in one run."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from gateway.config.offer_schema import OfferFile
from gateway.config.redaction import looks_like_secret
from gateway.config.schema import CONFIG_FILES, OPTIONAL_FILES, Config
from gateway.config.schema_base import ConfigStruct
from gateway.config.source_files import OFFERS_FOLDER, SourceFiles, read_folder
from gateway.config.validation import Validator
from gateway.config.yaml_nodes import NAMELESS_KEYS, Problem, SourceLocation, YamlNode, YamlSyntaxError, parse_bytes
from gateway.suggestions import did_you_mean

# What stands in for a part that is wrong, which is told already. None of it could stand in a file.
PLACEHOLDERS: dict[str, Any] = {"models": {}, "accounts": {}, "policies": {}, "default": "", "offers": {}}
OFFER_PLACEHOLDERS: dict[str, Any] = {"account": "", "adapter": "", "offers": {}}
# Where secrets are most likely to be pasted in the wrong place.
SECRET_FILES = ("accounts.yaml",)
INLINE_SECRET = "looks like a secret: say where it is instead, with env:NAME or file:/path"


class LoadedFiles(Struct, frozen=True):
    """What was read. Where there are problems, `config` holds only what is right; without a folder it is None."""

    config: Config | None
    problems: tuple[Problem, ...]
    nodes: Mapping[str, YamlNode]
    files: SourceFiles
    unreliable: Collection[tuple[SourceLocation, str]] = ()

    def locate(self, file: str, *steps: str | int) -> SourceLocation:
        """Where the thing at the end of these steps stands, or the nearest thing above it that is there."""
        node = self.nodes.get(file)
        location = SourceLocation(f"{self.files.folder}/{file}", 1) if node is None else node.location
        for step in steps:
            child = _find_child(node, step)
            if child is None:
                return location
            node, location = child, child.location
        return location

    def is_reliable(self, file: str, *steps: str | int) -> bool:
        """Whether what was read there is what was written there, and nothing is told of it already."""
        problem_locations = {problem.location for problem in self.problems}
        node = self.nodes.get(file)
        for step in steps if problem_locations else ():
            child = _find_child(node, step)
            if child is None:
                return (
                    node is not None
                    and isinstance(node.value, dict)
                    and not self._is_unreliable(node, step, problem_locations)
                )
            node = child
        return not problem_locations or (node is not None and problem_locations.isdisjoint(_list_locations(node)))

    def _is_unreliable(self, block: YamlNode, option: str | int, problem_locations: Collection[SourceLocation]) -> bool:
        """Whether an absent option may have been meant by something else that stands in its block."""
        nameless_paths = {block.location.child(name, 0).path for name in NAMELESS_KEYS}
        return (block.location, option) in self.unreliable or any(
            location.path in nameless_paths for location in problem_locations
        )

    def known_names(self, kind: str) -> Collection[str] | None:
        """Of all models, accounts, policies or teams, also those whose block is wrong. None if there is no telling."""
        file = f"{kind}.yaml"
        if file not in self.nodes:
            is_there = file in self.files.contents or file in self.files.unreadable
            return () if file in OPTIONAL_FILES and not is_there else None
        block = self.nodes[file].value
        if not isinstance(block, dict) or (kind not in block and file not in OPTIONAL_FILES):
            return None
        names = block[kind].value if kind in block else {}
        return names.keys() if isinstance(names, dict) else None


def _find_child(node: YamlNode | None, step: str | int) -> YamlNode | None:
    if node is None:
        return None
    if isinstance(node.value, dict):
        return node.value.get(str(step))
    if isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
        return node.value[step]
    return None


def _list_locations(node: YamlNode) -> Iterator[SourceLocation]:
    yield node.location
    children = node.value.values() if isinstance(node.value, dict) else node.value
    for child in children if isinstance(children, Iterable) and not isinstance(children, str) else ():
        yield from _list_locations(child)


def load(folder: Path) -> LoadedFiles:
    return load_files(read_folder(folder))


def load_files(files: SourceFiles) -> LoadedFiles:
    return _Loader(files).run()


class _Loader:
    def __init__(self, files: SourceFiles) -> None:
        self.files = files
        self.validator = Validator()
        self.nodes: dict[str, YamlNode] = {}

    def run(self) -> LoadedFiles:
        if self.files.folder_error is not None:
            self.validator.add_problem(SourceLocation(self.files.folder, 1), self.files.folder_error)
            return LoadedFiles(None, tuple(self.validator.problems), {}, self.files)
        self._report_unexpected_files()
        blocks = {
            name.removesuffix(".yaml"): self._load_file(name, struct_type) for name, struct_type in CONFIG_FILES.items()
        }
        offers = {seller: self._load_offers(seller, name) for seller, name in self.files.sellers.items()}
        if not offers:
            self._add_problem(OFFERS_FOLDER, "there is no offers/<seller>.yaml, so nobody sells anything")
        config = Config(offers=offers, hash=self.files.hash, **blocks)
        return LoadedFiles(config, tuple(self.validator.problems), self.nodes, self.files, self.validator.unreliable)

    def _add_problem(self, file: str, message: str) -> None:
        self.validator.add_problem(SourceLocation(f"{self.files.folder}/{file}", 1), message)

    def _report_unexpected_files(self) -> None:
        """A misspelt file would otherwise be ignored in silence."""
        for name in self.files.unexpected:
            if name.startswith(f"{OFFERS_FOLDER}/"):
                self._add_problem(name, "is not read: files of offers end in .yaml")
            else:
                self._add_problem(name, f"is no file of this configuration{did_you_mean(name, CONFIG_FILES)}")

    def _load_file(self, name: str, struct_type: type[ConfigStruct]) -> Any:
        values = self._read_values(name, struct_type)
        fields = struct_type.__struct_fields__
        return struct_type(
            **{field: placeholder for field, placeholder in PLACEHOLDERS.items() if field in fields} | values
        )

    def _load_offers(self, seller: str, name: str) -> OfferFile:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", seller):
            self._add_problem(name, "a file of offers is named after its seller, like runflow-runs.yaml")
        return OfferFile(**OFFER_PLACEHOLDERS | self._read_values(name, OfferFile))

    def _read_values(self, name: str, struct_type: type[ConfigStruct]) -> dict[str, Any]:
        if (reason := self.files.unreadable.get(name)) is not None:
            self._add_problem(name, reason)
            return {}
        if (data := self.files.contents.get(name)) is None:
            if name not in OPTIONAL_FILES:
                self._add_problem(name, "is missing")
            return {}
        try:
            parsed = parse_bytes(data, f"{self.files.folder}/{name}")
        except YamlSyntaxError as error:
            self.validator.problems.append(error.problem)
            return {}
        self.nodes[name] = parsed.node
        self.validator.problems.extend(parsed.problems)
        values = self.validator.build_file(parsed.node, struct_type, hide_values=name in SECRET_FILES)
        self._report_secrets(parsed.node)
        return values

    def _report_secrets(self, root: YamlNode) -> None:
        problem_locations = {problem.location for problem in self.validator.problems}
        for location in _find_secrets(root):
            if location not in problem_locations:
                self.validator.add_problem(location, INLINE_SECRET)


def _find_secrets(node: YamlNode, name: str = "") -> Iterator[SourceLocation]:
    """Where a name or a text looks like a secret."""
    if looks_like_secret(name) or looks_like_secret(node.text):
        yield node.location
    if isinstance(node.value, dict):
        for inner_name, inner in node.value.items():
            yield from _find_secrets(inner, inner_name)
    elif isinstance(node.value, list):
        for item in node.value:
            yield from _find_secrets(item)
