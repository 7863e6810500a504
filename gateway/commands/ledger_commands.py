"""`image-gateway ledger`: what was spent, by team, API key, seller, model, cell, day or hour."""

import asyncio
import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from gateway.commands.api_key_commands import connection_options
from gateway.commands.ledger_sources import open_ledger
from gateway.commands.text_tables import print_table
from gateway.jobs.transition_tables import LedgerLine
from gateway.ledger.report_options import DEFAULT_SINCE, InvalidReportOption, ReportOptions, parse_dimensions
from gateway.ledger.report_reader import parse_lines

Json = dict[str, Any]
SUM_COLUMNS = ("spend", "images", "price_per_image", "orphaned", "suspected", "excess")
ENTRY_COLUMNS = (
    *("day", "line", "amount", "images", "team", "key", "seller", "model", "cell", "job", "attempt", "reason"),
    "ticket",
)


@click.command()
@click.option("--since", default=DEFAULT_SINCE, show_default=True, help="2026-11-01, 2026-11-01T08 (UTC), 7d or 24h.")
@click.option("--until", default="", help="The last day or hour, which is included.  [default: now]")
@click.option("--group-by", multiple=True, help="Some of team, key, seller, model, cell, day, hour.  [default: team]")
@click.option("--team", help="Only this team.")
@click.option("--lines", multiple=True, help="List entries instead: some of orphan, suspected, excess, failed.")
@click.option("--csv", "wants_csv", is_flag=True, help="As CSV, with a line of names.")
@click.option("--json", "wants_json", is_flag=True, help="As JSON, as the API sends it.")
@connection_options
def ledger(
    group_by: tuple[str, ...], lines: tuple[str, ...], wants_csv: bool, wants_json: bool, **options: Any
) -> None:
    """Show what was spent, and what sellers charged besides.

    \b
    spend      paid by teams, for delivered images
    orphaned   charged by sellers for images that were not delivered
    suspected  possibly charged: the seller has not said; `reconcile` resolves it
    excess     charged beyond what was held

    With --lines, the entries of these lines are listed, each with its job and the reason. SQLite belongs to one
    process: use the running gateway (--url), or stop it first.

    \b
    Examples:
      image-gateway ledger --since 2026-11-01 --group-by team,model
      image-gateway ledger --since 24h --group-by hour --csv
      image-gateway ledger --since 7d --lines orphan,suspected
    """
    report_options, wanted_lines = _parse_options(group_by, lines, options)
    content = asyncio.run(_load(report_options, wanted_lines, options))
    if wants_json:
        return click.echo(msgspec.json.format(content, indent=2).decode())
    # Amounts stay text, as they were written: no float holds money.
    body = json.loads(content, parse_float=str)
    columns = ENTRY_COLUMNS if wanted_lines else (*body["group_by"], *SUM_COLUMNS)
    if wants_csv:
        return click.echo(_format_csv(columns, body["data"]), nl=False)
    _print_rows(columns, body)


def _parse_options(
    group_by: tuple[str, ...], lines: tuple[str, ...], options: dict[str, Any]
) -> tuple[ReportOptions, tuple[LedgerLine, ...]]:
    try:
        dimensions = parse_dimensions(group_by or ("team",))
        wanted_lines = parse_lines(lines)
    except InvalidReportOption as error:
        raise click.UsageError(f"--{error.option.replace('_', '-')} {error}") from None
    if wanted_lines and group_by:
        raise click.UsageError("--lines lists entries: omit --group-by")
    report_options = ReportOptions(
        since=options["since"],
        until=options["until"],
        team=options["team"],
        group_by=() if wanted_lines else dimensions,
    )
    return report_options, wanted_lines


async def _load(report_options: ReportOptions, lines: tuple[LedgerLine, ...], connection: dict[str, Any]) -> bytes:
    names = ("url", "admin_key", "config", "data")
    async with open_ledger(*(connection[name] for name in names)) as source:
        return await (source.list_entries(report_options, lines) if lines else source.load_report(report_options))


def _format_csv(columns: Sequence[str], rows: list[Json]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if row[column] is None else row[column] for column in columns] for row in rows)
    return text.getvalue()


def _print_rows(columns: Sequence[str], body: Json) -> None:
    rows = body["data"]
    if not rows:
        return click.echo("no entries" if "total" not in body else "nothing was spent or charged", err=True)
    table = [[_format_value(column, row[column]) for column in columns] for row in rows]
    if "total" in body and len(rows) > 1:
        groups = ["total", *[""] * (len(columns) - len(SUM_COLUMNS) - 1)][: len(columns) - len(SUM_COLUMNS)]
        table.append([*groups, *(_format_value(column, body["total"][column]) for column in SUM_COLUMNS)])
    print_table([column.replace("_", " ") for column in columns], table)
    if body.get("has_more"):
        click.echo("There are more entries: choose a shorter period.", err=True)


def _format_value(column: str, value: Any) -> str:
    if value is None:
        return ""
    return f"${value}" if column in (*SUM_COLUMNS, "amount") and column != "images" else str(value)
