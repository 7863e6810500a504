"""Loads a configuration folder: parses each file, and validates the parsed ones against the schema.

Stages: parsing, schema (both here, file by file), checks across files (`cross_checks.py`), secrets
(`catalogue_builder.py`). All problems of a stage are reported together. The next stage runs only if there are none, so
that no reported problem is only the consequence of another.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from gateway.config.config_file_reader import OFFERS_FOLDER, ConfigFiles, read_folder
from gateway.config.findings import OptionPath
from gateway.config.offer_schema import OfferFile
from gateway.config.redaction import looks_like_secret
from gateway.config.schema import CONFIG_FILES, OPTIONAL_FILES, Config
from gateway.config.schema_base import ConfigStruct
from gateway.config.validation import Validator
from gateway.config.yaml_nodes import ParsedYaml, Problem, SourceLocation, YamlNode, YamlSyntaxError, parse_bytes
from gateway.suggestions import did_you_mean

# Files in which secrets are most likely pasted in the wrong place.
SECRET_FILES = ("accounts.yaml",)
SECRET_FOUND = "Possible secret in the file. Reference it with env:NAME or file:/path"  # noqa: S105  a message


class LoadedFiles(Struct, frozen=True):
    """A loaded folder: the configuration, or the problems that prevent one."""

    folder: str
    config: Config | None
    problems: tuple[Problem, ...]
    nodes: Mapping[str, YamlNode]

    def make_problem(self, message: str, file: str, path: OptionPath) -> Problem:
        """Makes a problem at the option with this path, or at its nearest parent that exists."""
        node: YamlNode | None = self.nodes.get(file)
        location = SourceLocation(file, 1)
        for step in (None, *path):
            node = node if step is None or node is None else _find_child(node, step)
            location = location if node is None else node.location
        return Problem(location, message).add_folder(self.folder)


def _find_child(node: YamlNode, step: str | int) -> YamlNode | None:
    if isinstance(node.value, dict):
        return node.value.get(str(step))
    if isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
        return node.value[step]
    return None


def load(folder: Path) -> LoadedFiles:
    return load_files(read_folder(folder))


def load_files(files: ConfigFiles) -> LoadedFiles:
    if files.folder_error is not None:
        return LoadedFiles(files.folder, None, (Problem(SourceLocation(files.folder, 1), files.folder_error),), {})
    return _Loader(files).run()


class _Loader:
    def __init__(self, files: ConfigFiles) -> None:
        self.files = files
        self.validator = Validator()
        self.nodes: dict[str, YamlNode] = {}

    def run(self) -> LoadedFiles:
        self._report_unexpected_files()
        blocks = {
            name.removesuffix(".yaml"): self._load_file(name, struct_type) for name, struct_type in CONFIG_FILES.items()
        }
        offers = {seller: self._load_offers(seller, name) for seller, name in self.files.sellers.items()}
        if not offers:
            self._add_problem(OFFERS_FOLDER, "No offers/<seller>.yaml found. Add one file for each seller")
        folder = self.files.folder
        problems = sort_problems(problem.add_folder(folder) for problem in self.validator.problems)
        config = None if problems else Config(offers=offers, hash=self.files.hash, **blocks)
        return LoadedFiles(folder, config, problems, self.nodes)

    def _add_problem(self, file: str, message: str) -> None:
        self.validator.add_problem(SourceLocation(file, 1), message)

    def _report_unexpected_files(self) -> None:
        """Reports YAML files with unknown names, which would otherwise be ignored silently."""
        for name in self.files.unexpected:
            if name.startswith(f"{OFFERS_FOLDER}/"):
                self._add_problem(name, "Ignored file. Offer files must end in .yaml")
            else:
                self._add_problem(name, f"Unknown configuration file{did_you_mean(name, CONFIG_FILES)}")

    def _load_offers(self, seller: str, name: str) -> Any:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", seller):
            self._add_problem(name, "Invalid file name. Name offer files after their seller, like runflow-runs.yaml")
        return self._load_file(name, OfferFile)

    def _load_file(self, name: str, struct_type: type[ConfigStruct]) -> Any:
        """Returns the content of a file. With problems it is incomplete, and not used."""
        if name in OPTIONAL_FILES and name not in self.files.contents and name not in self.files.unreadable:
            return struct_type()
        if (parsed := self._parse_file(name)) is None:
            return None
        self.nodes[name] = parsed.node
        self.validator.problems.extend(parsed.problems)
        is_secret_file = name in SECRET_FILES
        built = None if parsed.problems else self.validator.build_file(parsed.node, struct_type, is_secret_file)
        self._report_secrets(parsed.node)
        return built

    def _parse_file(self, name: str) -> ParsedYaml | None:
        if (data := self.files.contents.get(name)) is None:
            self._add_problem(name, self.files.unreadable.get(name, "Missing file"))
            return None
        try:
            return parse_bytes(data, name)
        except YamlSyntaxError as error:
            self.validator.problems.append(error.problem)
            return None

    def _report_secrets(self, root: YamlNode) -> None:
        problem_locations = {problem.location for problem in self.validator.problems}
        for location in _find_secrets(root):
            if location not in problem_locations:
                self.validator.add_problem(location, SECRET_FOUND)


def sort_problems(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: (problem.location.file, problem.location.line)))


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
