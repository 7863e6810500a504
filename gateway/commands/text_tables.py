"""Prints tables as plain text."""

from collections.abc import Sequence

import click


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], err: bool = False) -> None:
    """Prints aligned columns, without those that are empty, in full width: scripts cut them as they need."""
    used = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    lines = [[columns[index].upper() for index in used], *([row[index] or "-" for index in used] for row in rows)]
    widths = [max(len(line[position]) for line in lines) for position in range(len(used))]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip(), err=err)
