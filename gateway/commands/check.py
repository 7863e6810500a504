"""`image-gateway check`: is the configuration right, and what does it mean?"""

from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from gateway.cell_coverage import build_coverage, list_coverage_warnings
from gateway.commands.config_helpers import config_option, load_config, print_messages
from gateway.report import render_coverage


@click.command()
@config_option
@click.option("--without-secrets", is_flag=True, help="Check as though every secret were there, as in a pipeline.")
@click.option("--quiet", "-q", is_flag=True, help="Only what is wrong or remarkable, not who wins where.")
def check(folder: Path, without_secrets: bool, quiet: bool) -> None:
    """Check the whole configuration, and show who wins each cell, at what price, and who comes second.

    Every problem is told in one run, with its file and line. The exit code is 1 if there is any; warnings leave it 0.
    A seller marked ~ only comes near to what is asked: `explain` says in what.
    """
    console, errors = Console(), Console(stderr=True)
    result = load_config(folder, with_secrets=not without_secrets)
    print_messages(errors, "error", "red", result.problems)
    print_messages(errors, "warning", "yellow", result.warnings)
    if result.catalogue is None:
        count = len(result.problems)
        kind = "problem" if count == 1 else "problems"
        errors.print(Text(f"{count} {kind} in {folder}: nothing of it would take effect"), soft_wrap=True)
        raise SystemExit(1)
    coverage = build_coverage(result.catalogue)
    if not quiet:
        console.print(render_coverage(result.catalogue, coverage))
    print_messages(console, "warning", "yellow", list_coverage_warnings(result.catalogue, coverage))
    valid = Text.assemble((f"{folder} is valid", "green"), f" (config {result.catalogue.hash})")
    console.print(valid, soft_wrap=True)
