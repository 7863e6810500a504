"""`image-gateway keys`: creates, lists, changes, rotates and revokes API keys."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from msgspec import UNSET, to_builtins

from gateway.access.key_requests import (
    DEFAULT_OVERLAP,
    BudgetAmounts,
    ChangeKeyRequest,
    CreateKeyRequest,
    LimitChanges,
)
from gateway.commands.config_helpers import CONFIG_HELP
from gateway.commands.key_admin_clients import Json, KeyAdmin, open_key_admin
from gateway.commands.option_types import GatewayUrlType, VisibleTextType
from gateway.commands.text_tables import print_table
from gateway.config.schema import RateLimits
from gateway.jobs.budgets import WindowKind
from gateway.money import MICROS_PER_USD, format_usd
from gateway.store.api_keys import Scope

ResultT = TypeVar("ResultT")
P = ParamSpec("P")
KEY_COLUMNS = ("id", "name", "team", "scopes", "status", "created", "expires", "last used", "limits")
EVENT_COLUMNS = ("time", "action", "key", "team", "by", "from", "details")
LIMIT_UNITS = {"requests_per_minute": "requests/min", "images_per_minute": "images/min", "concurrent_jobs": "jobs"}

# The value of an option that removes a limit.
NONE = "none"


class OptionalLimitType(click.IntRange):
    """A number of at least 1, or `none`, which is converted to NONE."""

    name = "integer or none"

    def __init__(self) -> None:
        super().__init__(1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return NONE if value == NONE else super().convert(value, param, ctx)


def connection_options(command: Callable[P, ResultT]) -> Callable[P, ResultT]:
    """Adds the options that say where the keys are."""
    for option in (
        click.option("--data", type=click.Path(path_type=Path), help="Without --url: folder of SQLite."),
        click.option("--config", type=click.Path(path_type=Path), help=f"Without --url. {CONFIG_HELP}"),
        click.option(
            "--admin-key",
            type=VisibleTextType("admin key"),
            envvar="IGW_ADMIN_KEY",
            help="With --url: the admin key.  [env: IGW_ADMIN_KEY]",
        ),
        click.option(
            "--url",
            type=GatewayUrlType(),
            envvar="IGW_URL",
            help="Use this running gateway.  [env: IGW_URL; default: open the store, like `serve`]",
        ),
    ):
        command = option(command)
    return command


@click.group()
def keys() -> None:
    """Create, list, change, rotate and revoke API keys.

    A key has the form igw_<id>_<secret>. It is shown once, when it is created; the store keeps only a digest. A change
    takes effect on all replicas within 5 seconds.

    With --url the commands use the admin API of a running gateway, and need its admin key. Without it they open the
    store, with the same environment as `serve`; SQLite permits that only while the gateway is stopped.
    """


def run_admin(connection: dict[str, Any], perform: Callable[[KeyAdmin], Awaitable[ResultT]]) -> ResultT:
    async def run() -> ResultT:
        async with open_key_admin(
            connection["url"], connection["admin_key"], connection["config"], connection["data"]
        ) as admin:
            return await perform(admin)

    return asyncio.run(run())


@keys.command("new")
@click.argument("team", required=False)
@click.option("--name", default="", help="A name for lists, like `nightly build`.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="May be repeated.  [default: generate and read]",
)
@click.option("--expires", metavar="TIME", help="Lifetime, like 90d or 12h.  [default: never expires]")
@click.option(
    "--policy", "policies", multiple=True, help="Policy that requests may name; may be repeated.  [default: the team's]"
)
@click.option("--requests-per-minute", type=click.IntRange(1), help="[default: only the team's limit]")
@click.option("--images-per-minute", type=click.IntRange(1), help="[default: only the team's limit]")
@click.option("--concurrent-jobs", type=click.IntRange(1), help="[default: only the team's limit]")
@click.option("--budget-day", metavar="USD", help="Maximum per day (UTC), like 5.00.  [default: only the team's]")
@click.option("--budget-week", metavar="USD", help="Maximum per week, Monday to Sunday (UTC).")
@click.option("--budget-month", metavar="USD", help="Maximum per month (UTC).")
@click.option("--budget-lifetime", metavar="USD", help="Maximum of all time, of the key and its successors.")
@click.option("--json", "wants_json", is_flag=True, help="Print the key with its options, as JSON.")
@connection_options
def new_key(team: str | None, wants_json: bool, **options: Any) -> None:
    """Create a key for TEAM, and print it.

    \b
    A key belongs to one team; without TEAM, to an admin (--scope admin). Only the key goes to standard output.

    \b
    Examples:
      image-gateway keys new design --name "nightly build" --expires 90d
      image-gateway keys new design --scope read --json
      image-gateway keys new design --policy cheapest --images-per-minute 60 --concurrent-jobs 5
      image-gateway keys new design --name trainee --budget-day 2.00 --budget-lifetime 50.00
      image-gateway keys new --scope admin --name ops --url http://127.0.0.1:8080
    """
    request = CreateKeyRequest(
        team=team,
        name=options["name"],
        scopes=tuple(Scope(scope) for scope in options["scopes"]) or CreateKeyRequest().scopes,
        expires_in=options["expires"],
        policies=options["policies"] or None,
        limits=RateLimits(**{name: options[name] for name in LIMIT_UNITS if options[name] is not None}),
        budget=BudgetAmounts(**{kind.value: options[f"budget_{kind}"] for kind in WindowKind}),
    )
    print_created(run_admin(options, lambda admin: admin.create_key(request)), wants_json)


@keys.command("list")
@click.option("--team", help="Only keys of this team.")
@click.option("--all", "wants_all", is_flag=True, help="Also keys that expired or were revoked.")
@click.option("--json", "wants_json", is_flag=True, help="As JSON, one list.")
@connection_options
def list_keys(team: str | None, wants_all: bool, wants_json: bool, **options: Any) -> None:
    """List the keys of the store, the newest first. Those of teams.yaml are not listed.

    \b
    Examples:
      image-gateway keys list --team design
      image-gateway keys list --all --json | jq -r '.[] | select(.last_used_at == null) | .id'
    """
    listed = run_admin(options, lambda admin: admin.list_keys(team))
    selected = [key for key in listed if wants_all or key["status"] == "active"]
    if wants_json:
        return print_json(selected)
    if not selected:
        hint = "" if wants_all or not listed else f"; {len(listed)} ended, see --all"
        return click.echo(f"no active keys{hint}", err=True)
    print_table(KEY_COLUMNS, [_format_key(key) for key in selected])


@keys.command("change")
@click.argument("key_id", metavar="ID")
@click.option("--name", help="A name for lists.")
@click.option("--expires", metavar="TIME", help="Lifetime from now on, like 90d or 12h; `never`.")
@click.option("--policy", "policies", multiple=True, help="Policy that requests may name; may be repeated.")
@click.option("--all-policies", is_flag=True, help="Requests may name all policies of the team.")
@click.option("--requests-per-minute", type=OptionalLimitType(), help="`none` removes the limit.")
@click.option("--images-per-minute", type=OptionalLimitType(), help="`none` removes the limit.")
@click.option("--concurrent-jobs", type=OptionalLimitType(), help="`none` removes the limit.")
@click.option("--budget-day", metavar="USD", help="Maximum per day (UTC), like 5.00; `none` removes it.")
@click.option("--budget-week", metavar="USD", help="Maximum per week, Monday to Sunday (UTC); `none` removes it.")
@click.option("--budget-month", metavar="USD", help="Maximum per month (UTC); `none` removes it.")
@click.option("--budget-lifetime", metavar="USD", help="Maximum of all time; `none` removes it.")
@click.option("--json", "wants_json", is_flag=True, help="Print the changed key, as JSON.")
@connection_options
def change_key(key_id: str, wants_json: bool, **options: Any) -> None:
    """Change options of a key. Those that are not given stay as they are, and so does the key itself.

    \b
    A key and those that it replaces, or that replace it, share their budget and limits: they change for all of them.
    Earlier spending counts. Scopes and team do not change: create another key.

    \b
    Examples:
      image-gateway keys change k3v7q2m5xa --budget-day 5.00 --budget-lifetime none
      image-gateway keys change k3v7q2m5xa --name "nightly build" --expires 90d
    """
    if options["policies"] and options["all_policies"]:
        raise click.UsageError("use either --policy or --all-policies")
    request = ChangeKeyRequest(
        name=UNSET if options["name"] is None else options["name"],
        expires_in=_get_change(options["expires"], "never"),
        policies=None if options["all_policies"] else options["policies"] or UNSET,
        limits=LimitChanges(**{name: _get_change(options[name]) for name in LIMIT_UNITS}),
        budget=BudgetAmounts(**{kind.value: _get_change(options[f"budget_{kind}"]) for kind in WindowKind}),
    )
    if to_builtins(request) == to_builtins(ChangeKeyRequest(limits=LimitChanges(), budget=BudgetAmounts())):
        raise click.UsageError("nothing to change: give at least one option")
    changed = run_admin(options, lambda admin: admin.change_key(key_id, request))
    if wants_json:
        return print_json(changed)
    print_table(KEY_COLUMNS, [_format_key(changed)])


def _get_change(value: Any, removal: str = NONE) -> Any:
    """Returns the value of an option: UNSET if it is not given, None if it removes something."""
    if value is None:
        return UNSET
    return None if value == removal else value


@keys.command("rotate")
@click.argument("key_id", metavar="ID")
@click.option(
    "--overlap", default=DEFAULT_OVERLAP, show_default=True, help="How long the old key still works; 0 ends it."
)
@click.option("--json", "wants_json", is_flag=True, help="Print the new key with its options, as JSON.")
@connection_options
def rotate_key(key_id: str, overlap: str, wants_json: bool, **options: Any) -> None:
    """Create the successor of a key, with the same options, and print it. The old key also works during the overlap.

    \b
    Examples:
      image-gateway keys rotate k3v7q2m5xa
      image-gateway keys rotate k3v7q2m5xa --overlap 7d
    """
    print_created(run_admin(options, lambda admin: admin.rotate_key(key_id, overlap)), wants_json)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@click.option("--json", "wants_json", is_flag=True, help="Print the revoked key, as JSON.")
@connection_options
def revoke_key(key_id: str, wants_json: bool, **options: Any) -> None:
    """Revoke a key at once, and for good. Jobs that it created continue.

    \b
    Example:
      image-gateway keys revoke k3v7q2m5xa
    """
    revoked = run_admin(options, lambda admin: admin.revoke_key(key_id))
    if wants_json:
        return print_json(revoked)
    click.echo(f"revoked {revoked['id']} of {revoked['team'] or 'an admin'}")


@keys.command("events")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True)
@click.option("--json", "wants_json", is_flag=True, help="As JSON, one list.")
@connection_options
def list_events(limit: int, wants_json: bool, **options: Any) -> None:
    """List what admins did: who, what, when and from where, the newest first.

    \b
    Example:
      image-gateway keys events --limit 10
    """
    events = run_admin(options, lambda admin: admin.list_events(limit))
    if wants_json:
        return print_json(events)
    if not events:
        return click.echo("no events", err=True)
    print_table(EVENT_COLUMNS, [_format_event(event) for event in events])


# --- output


def print_created(created: Json, wants_json: bool) -> None:
    """Prints a new key. Only the key goes to standard output, so that a script can store it."""
    if wants_json:
        return print_json(created)
    print_table(KEY_COLUMNS, [_format_key(created)], err=True)
    click.echo("This is the only time the key is shown:", err=True)
    click.echo(created["key"])


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _format_key(key: Json) -> tuple[str, ...]:
    limits = [f"{count} {LIMIT_UNITS.get(name, name)}" for name, count in key["limits"].items() if count]
    limits += [f"${format_usd(round(amount * MICROS_PER_USD))}/{window}" for window, amount in key["budget"].items()]
    times = (key["created_at"], key["expires_at"], key["last_used_at"])
    formatted_times = [_format_time(timestamp) for timestamp in times]
    return (
        key["id"],
        key["name"],
        key["team"] or "",
        ",".join(key["scopes"]),
        key["status"],
        *formatted_times,
        ", ".join(limits),
    )


def _format_event(event: Json) -> tuple[str, ...]:
    details = ", ".join(f"{name}={_format_detail(value)}" for name, value in event["details"].items())
    time = _format_time(event["created_at"])
    action = event["action"].replace("_", " ")
    return (time, action, event["key_id"] or "", event["team"] or "", event["actor"], event["source"], details)


def _format_detail(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"from", "to"}:
        return f"{_format_detail(value['from'])} to {_format_detail(value['to'])}"
    text = "+".join(str(part) for part in value) if isinstance(value, list) else str(value)
    return NONE if value is None else text or NONE


def _format_time(timestamp: int | None) -> str:
    return "" if timestamp is None else datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%MZ")
