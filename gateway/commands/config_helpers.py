"""Helpers of the commands that read the configuration: the --config option, loading, printing messages."""

import os
from collections.abc import Iterable
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from gateway.catalogue import Catalogue
from gateway.config.catalogue_builder import (
    NO_API_KEY,
    ResolvedConfig,
    placeholder_secrets,
    resolve_files,
    secrets_from_env,
)
from gateway.config.default_config import find_config_folder
from gateway.config.loader import load
from gateway.config.yaml_nodes import Problem
from providers import ADAPTERS

CONFIG_HELP = "Configuration folder.  [default: config, or the shipped one if there is none]"


def _resolve_folder(_: click.Context, __: click.Parameter, named: Path | None) -> Path:
    return find_config_folder(named)


config_option = click.option(
    "--config",
    "folder",
    type=click.Path(path_type=Path),
    callback=_resolve_folder,
    envvar="IGW_CONFIG",
    help=CONFIG_HELP,
)


def load_config(folder: Path, *, with_secrets: bool = True) -> ResolvedConfig:
    """Loads the configuration with the secrets of the environment, or with placeholders for all."""
    secrets = secrets_from_env(os.environ) if with_secrets else placeholder_secrets
    return resolve_files(load(folder), secrets, ADAPTERS)


def load_catalogue_for_planning(folder: Path, errors: Console) -> Catalogue:
    """Loads the catalogue for planning, which needs no secrets: if none is set, placeholders are used."""
    result = load_config(folder)
    if [problem.message for problem in result.problems] == [NO_API_KEY]:
        errors.print("[yellow]no seller's key is set: planning as if all were[/]")
        result = load_config(folder, with_secrets=False)
    if result.catalogue is None:
        print_messages(errors, "error", "red", result.problems)
        raise SystemExit(1)
    return result.catalogue


def print_messages(console: Console, kind: str, style: str, messages: Iterable[Problem | str]) -> None:
    for message in messages:
        console.print(Text.assemble((kind, f"bold {style}"), f": {message}"), soft_wrap=True)
