"""`image-gateway budgets`: lists budgets, and raises one for a while."""

from typing import Any

import click

from gateway.access.budget_administration import RaiseBudgetRequest
from gateway.commands.api_key_commands import connection_options, print_json, run_admin
from gateway.commands.key_admin_clients import Json
from gateway.commands.text_tables import print_table
from gateway.jobs.budgets import WindowKind
from gateway.money import MICROS_PER_USD, format_usd
from gateway.store.api_keys import format_time

BUDGET_COLUMNS = ("team", "key", "window", "period", "limit", "spent", "held", "left", "raised until", "override")


@click.group(invoke_without_command=True)
@click.option("--team", help="Only budgets of this team and its keys.")
@click.option("--json", "wants_json", is_flag=True, help="As JSON, one list.")
@connection_options
@click.pass_context
def budgets(ctx: click.Context, /, team: str | None, wants_json: bool, **options: Any) -> None:
    """List the budgets of teams and API keys, with what is left of them, in USD.

    `raise` raises a limit for a while, and `end` ends that.

    \b
    Examples:
      image-gateway budgets --team marketing
      image-gateway budgets raise marketing --window day --to 80.00 --for 24h --reason "spring catalogue"
    """
    if ctx.invoked_subcommand is not None:
        return
    listed = run_admin(options, lambda admin: admin.list_budgets(team))
    if wants_json:
        print_json(listed)
    elif listed:
        print_table(BUDGET_COLUMNS, [_format_budget(budget) for budget in listed])
    else:
        click.echo("no budgets", err=True)


@budgets.command("raise")
@click.argument("team")
@click.option("--key", "key_id", metavar="ID", help="Raise the budget of this API key.  [default: that of the team]")
@click.option("--window", type=click.Choice([kind.value for kind in reversed(WindowKind)]), required=True)
@click.option("--to", "amount", metavar="USD", required=True, help="The raised limit, like 80.00.")
@click.option("--until", metavar="TIME", help="When it ends, like 2026-12-01T00:00Z.")
@click.option("--for", "duration", metavar="TIME", help="How long it lasts, like 24h.")
@click.option("--reason", required=True, help="Why; it is in the events of admins.")
@click.option("--json", "wants_json", is_flag=True, help="Print the override as JSON.")
@connection_options
def raise_budget(team: str, wants_json: bool, **options: Any) -> None:
    """Raise a limit of TEAM for a while, at once on all replicas.

    \b
    Examples:
      image-gateway budgets raise marketing --window day --to 80.00 --for 24h --reason "spring catalogue"
      image-gateway budgets raise marketing --key a2b3c4d5e6 --window month --to 90.00 \\
        --until 2026-12-01T00:00Z --reason "until the new key"
    """
    request = RaiseBudgetRequest(
        team=team,
        window=WindowKind(options["window"]),
        amount=options["amount"],
        reason=options["reason"],
        until=options["until"],
        duration=options["duration"],
        key_id=options["key_id"],
    )
    override = run_admin(options, lambda admin: admin.raise_budget(request))
    _print_override(override, wants_json, "ends")


@budgets.command("end")
@click.argument("override_id", metavar="ID")
@click.option("--json", "wants_json", is_flag=True, help="Print the override as JSON.")
@connection_options
def end_override(override_id: str, wants_json: bool, **options: Any) -> None:
    """End an override at once. Jobs that were accepted continue.

    \b
    Examples:
      image-gateway budgets end override_0712ab34cd56ef78gh90ij12kl34
    """
    override = run_admin(options, lambda admin: admin.end_override(override_id))
    _print_override(override, wants_json, "would have ended")


def _print_override(override: Json, wants_json: bool, verb: str) -> None:
    if wants_json:
        return print_json(override)
    owner = f"key {override['key_id']} of {override['team']}" if override["key_id"] else override["team"]
    amount, end = _format_amount(override["amount"]), format_time(override["until"])
    click.echo(f"{override['id']}: {owner} has ${amount} per {override['window']}; it {verb} at {end}")


def _format_budget(budget: Json) -> tuple[str, ...]:
    amounts = [_format_amount(budget[name]) for name in ("limit", "spent", "held", "left")]
    overrides = budget["overrides"]
    until = format_time(max((override["until"] for override in overrides), default=None)) or ""
    columns = (budget["team"], budget["key_id"] or "", budget["window"], budget["period"])
    return (*columns, *amounts, until, ",".join(override["id"] for override in overrides))


def _format_amount(amount: float) -> str:
    return format_usd(round(amount * MICROS_PER_USD))
