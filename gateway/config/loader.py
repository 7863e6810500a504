"""Loads a configuration folder and reports every problem in one run."""

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

# Placeholders for invalid parts, which are already reported. No file can contain these values.
PLACEHOLDERS: dict[str, Any] = {"models": {}, "accounts": {}, "policies": {}, "default": "", "offers": {}}
OFFER_PLACEHOLDERS: dict[str, Any] = {"account": "", "adapter": "", "offers": {}}
# Files in which secrets are most likely pasted in the wrong place.
SECRET_FILES = ("accounts.yaml",)
SECRET_FOUND = "Possible secret in the file. Reference it with env:NAME or file:/path"  # noqa: S105  a message


class LoadedFiles(Struct, frozen=True):
    """A loaded folder. With problems, `config` holds only the valid parts; without a folder it is None."""

    config: Config | None
    problems: tuple[Problem, ...]
    nodes: Mapping[str, YamlNode]
    files: SourceFiles
    unreliable: Collection[tuple[SourceLocation, str]] = ()

    def locate(self, file: str, *steps: str | int) -> SourceLocation:
        """Returns the location of the option at this path, or of its nearest parent that exists."""
        node = self.nodes.get(file)
        location = SourceLocation(f"{self.files.folder}/{file}", 1) if node is None else node.location
        for step in steps:
            child = _find_child(node, step)
            if child is None:
                return location
            node, location = child, child.location
        return location

    def is_reliable(self, file: str, *steps: str | int) -> bool:
        """Returns whether the value at this path was read as written, without a reported problem."""
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
        """Returns whether an absent option may be present under a misspelled name."""
        nameless_paths = {block.location.child(name, 0).path for name in NAMELESS_KEYS}
        return (block.location, option) in self.unreliable or any(
            location.path in nameless_paths for location in problem_locations
        )

    def known_names(self, kind: str) -> Collection[str] | None:
        """Returns the names of all models, accounts, policies or teams, including invalid ones. None if they cannot be
        known."""
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
            self._add_problem(OFFERS_FOLDER, "No offers/<seller>.yaml found. Add one file for each seller")
        config = Config(offers=offers, hash=self.files.hash, **blocks)
        return LoadedFiles(config, tuple(self.validator.problems), self.nodes, self.files, self.validator.unreliable)

    def _add_problem(self, file: str, message: str) -> None:
        self.validator.add_problem(SourceLocation(f"{self.files.folder}/{file}", 1), message)

    def _report_unexpected_files(self) -> None:
        """Reports YAML files with unknown names, which would otherwise be ignored silently."""
        for name in self.files.unexpected:
            if name.startswith(f"{OFFERS_FOLDER}/"):
                self._add_problem(name, "Ignored file. Offer files must end in .yaml")
            else:
                self._add_problem(name, f"Unknown configuration file{did_you_mean(name, CONFIG_FILES)}")

    def _load_file(self, name: str, struct_type: type[ConfigStruct]) -> Any:
        values = self._read_values(name, struct_type)
        fields = struct_type.__struct_fields__
        return struct_type(
            **{field: placeholder for field, placeholder in PLACEHOLDERS.items() if field in fields} | values
        )

    def _load_offers(self, seller: str, name: str) -> OfferFile:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", seller):
            self._add_problem(name, "Invalid file name. Name offer files after their seller, like runflow-runs.yaml")
        return OfferFile(**OFFER_PLACEHOLDERS | self._read_values(name, OfferFile))

    def _read_values(self, name: str, struct_type: type[ConfigStruct]) -> dict[str, Any]:
        if (reason := self.files.unreadable.get(name)) is not None:
            self._add_problem(name, reason)
            return {}
        if (data := self.files.contents.get(name)) is None:
            if name not in OPTIONAL_FILES:
                self._add_problem(name, "Missing file")
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
                self.validator.add_problem(location, SECRET_FOUND)


def _find_secrets(node: YamlNode, name: str = "") -> Iterator[SourceLocation]:
    """Yields the locations of names and texts that look like secrets."""
    if looks_like_secret(name) or looks_like_secret(node.text):
        yield node.location
    if isinstance(node.value, dict):
        for inner_name, inner in node.value.items():
            yield from _find_secrets(inner, inner_name)
    elif isinstance(node.value, list):
        for item in node.value:
            yield from _find_secrets(item)
