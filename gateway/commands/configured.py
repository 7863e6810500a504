"""What commands about the configuration share: reading it, and telling what is wrong with it."""

import os
from collections.abc import Iterable
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from gateway.catalogue import Catalogue
from gateway.config.loading import load
from gateway.config.located import Problem
from gateway.config.resolving import NO_KEYS, Resolved, assumed_secrets, resolve, secrets_in
from gateway.config.shipped import find_folder
from providers import ADAPTERS

CONFIG_HELP = "Folder of the configuration.  [default: config; where there is none, the shipped one]"


def _found(_: click.Context, __: click.Parameter, named: Path | None) -> Path:
    return find_folder(named)


config_option = click.option(
    "--config",
    "folder",
    type=click.Path(path_type=Path),
    callback=_found,
    envvar="IGW_CONFIG",
    help=CONFIG_HELP,
)


def resolved(folder: Path, *, with_secrets: bool = True) -> Resolved:
    """The configuration with the secrets that are there, or as though all were."""
    secrets = secrets_in(os.environ) if with_secrets else assumed_secrets
    return resolve(load(folder), secrets, ADAPTERS)


def catalogue_for_planning(folder: Path, errors: Console) -> Catalogue:
    """Whoever only asks needs no secrets: where none is there at all, planning goes on as though all were."""
    result = resolved(folder)
    if [problem.message for problem in result.problems] == [NO_KEYS]:
        errors.print("[yellow]no seller's key is set here: planning as though all were[/]")
        result = resolved(folder, with_secrets=False)
    if result.catalogue is None:
        tell(errors, "error", "red", result.problems)
        raise SystemExit(1)
    return result.catalogue


def tell(console: Console, kind: str, style: str, problems: Iterable[Problem | str]) -> None:
    for problem in problems:
        console.print(Text.assemble((kind, f"bold {style}"), f": {problem}"), soft_wrap=True)
