"""`image-gateway check`: validates the configuration and shows which seller wins each cell."""

from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from gateway.commands.config_helpers import config_option, load_config, print_messages
from gateway.commands.plan_tables import render_cell_winners
from gateway.commands.winning_sellers import find_cell_winners, list_winner_warnings


@click.command()
@config_option
@click.option("--without-secrets", is_flag=True, help="Check as if every secret were set, e.g. in CI.")
@click.option("--quiet", "-q", is_flag=True, help="Print only problems and warnings, no tables of winners.")
def check(folder: Path, without_secrets: bool, quiet: bool) -> None:
    """Check the whole configuration, and show for each cell the winning seller, its price and the runner-up.

    Problems are listed with file and line, all of a stage together: YAML and options, names across files, secrets. The
    exit code is 1 if there is any; warnings do not count. ~ marks a seller that fulfils the request only approximately:
    `explain` shows how.
    """
    console, errors = Console(), Console(stderr=True)
    result = load_config(folder, with_secrets=not without_secrets)
    print_messages(errors, "error", "red", result.problems)
    print_messages(errors, "warning", "yellow", result.warnings)
    if result.catalogue is None:
        count = len(result.problems)
        kind = "problem" if count == 1 else "problems"
        errors.print(Text(f"{count} {kind} in {folder}: this configuration would be rejected"), soft_wrap=True)
        raise SystemExit(1)
    all_winners = find_cell_winners(result.catalogue)
    if not quiet:
        console.print(render_cell_winners(result.catalogue, all_winners))
    print_messages(console, "warning", "yellow", list_winner_warnings(result.catalogue, all_winners))
    valid = Text.assemble((f"{folder} is valid", "green"), f" (config {result.catalogue.hash})")
    console.print(valid, soft_wrap=True)
