"""`image-gateway webhooks`: lists, adds, changes, removes and tests the targets of webhooks."""

from typing import Any, get_args

import click

from gateway.access.key_requests import DEFAULT_OVERLAP
from gateway.access.webhook_requests import AddWebhookTargetRequest, ChangeWebhookTargetRequest
from gateway.commands.api_key_commands import connection_options, print_json, run_admin
from gateway.commands.key_admin_clients import Json
from gateway.commands.text_tables import print_table
from gateway.config.webhook_schema import JOB_EVENTS, PayloadKind, WebhookEventName
from gateway.store.api_keys import format_time

TARGET_COLUMNS = ("id", "team", "name", "url", "events", "payload", "signed with", "state", "origin", "description")
EVENT_OPTION = click.option(
    "--event",
    "events",
    multiple=True,
    type=click.Choice(get_args(WebhookEventName)),
    help="May be repeated.  [default: the four ends of a job]",
)
PAYLOAD_CHOICE = click.Choice(get_args(PayloadKind))


@click.group()
def webhooks() -> None:
    """List, add, change, remove and test the targets of webhooks.

    All jobs of a team send their webhooks to its targets. Those of teams.yaml are listed, and changed only there; the
    others are in the store. A change takes effect on all replicas within 5 seconds.

    With --url the commands use the admin API of a running gateway, and need its admin key. Without it they open the
    store, with the same environment as `serve`; SQLite permits that only while the gateway is stopped.
    """


@webhooks.command("list")
@click.option("--team", help="Only targets of this team.")
@click.option("--json", "wants_json", is_flag=True, help="As JSON, one list.")
@connection_options
def list_targets(team: str | None, wants_json: bool, **options: Any) -> None:
    """List the targets, of teams.yaml and of the store.

    \b
    Example:
      image-gateway webhooks list --team design
    """
    listed = run_admin(options, lambda admin: admin.list_targets(team))
    if wants_json:
        return print_json(listed)
    if not listed:
        return click.echo("no targets", err=True)
    print_table(TARGET_COLUMNS, [_format_target(target) for target in listed])


@webhooks.command("add")
@click.argument("team")
@click.argument("target_url", metavar="URL")
@click.option("--name", help="Lower-case letters, digits, _ or -.  [default: a name at random]")
@EVENT_OPTION
@click.option("--payload", type=PAYLOAD_CHOICE, default="thin", show_default=True, help="full: the whole job.")
@click.option("--private", is_flag=True, help="The URL may lead into a private network, by http too.")
@click.option("--disabled", is_flag=True, help="Send nothing until it is enabled.")
@click.option("--description", default="", help="Its purpose.")
@click.option("--own-secret", is_flag=True, help="Sign with a new secret, even if the team has some in teams.yaml.")
@click.option("--json", "wants_json", is_flag=True, help="Print the target with its secret, as JSON.")
@connection_options
def add_target(team: str, target_url: str, wants_json: bool, **options: Any) -> None:
    """Send the webhooks of TEAM's jobs to URL.

    \b
    If teams.yaml has no signing secret for the team, the target gets one of its own. It is shown once, as the only
    text on standard output.

    \b
    Examples:
      image-gateway webhooks add design https://orders.example.com/images --name orders --payload full
      image-gateway webhooks add design http://alarm.internal:8080/ --private --event job.failed --event job.expired
    """
    request = AddWebhookTargetRequest(
        team=team,
        url=target_url,
        name=options["name"],
        events=options["events"] or JOB_EVENTS,
        payload=options["payload"],
        private=options["private"],
        enabled=not options["disabled"],
        description=options["description"],
        own_secret=options["own_secret"],
    )
    _print_created(run_admin(options, lambda admin: admin.add_target(request)), wants_json)


@webhooks.command("change")
@click.argument("target_id", metavar="ID")
@click.option("--to", "new_url", metavar="URL", help="The URL to call from now on.")
@EVENT_OPTION
@click.option("--payload", type=PAYLOAD_CHOICE)
@click.option("--private/--public", "private", default=None, help="Whether the URL may lead into a private network.")
@click.option("--enable/--disable", "enabled", default=None, help="Whether it gets webhooks.")
@click.option("--description", help="Its purpose.")
@click.option("--json", "wants_json", is_flag=True, help="Print the target as JSON.")
@connection_options
def change_target(target_id: str, wants_json: bool, **options: Any) -> None:
    """Change a target of the store. Options that are not given do not change.

    A changed URL also holds for webhooks that are pending. Those of a disabled target are given up.

    \b
    Examples:
      image-gateway webhooks change target_k3v7q2m5xa3e4d7f --to https://orders.example.com/v2
      image-gateway webhooks change target_k3v7q2m5xa3e4d7f --disable
    """
    request = ChangeWebhookTargetRequest(
        url=options["new_url"],
        events=options["events"] or None,
        payload=options["payload"],
        private=options["private"],
        enabled=options["enabled"],
        description=options["description"],
    )
    _print_target(run_admin(options, lambda admin: admin.change_target(target_id, request)), wants_json)


@webhooks.command("remove")
@click.argument("target_id", metavar="ID")
@click.option("--json", "wants_json", is_flag=True, help="Print the removed target as JSON.")
@connection_options
def remove_target(target_id: str, wants_json: bool, **options: Any) -> None:
    """Remove a target of the store, with its secrets. Its pending webhooks are given up.

    \b
    Example:
      image-gateway webhooks remove target_k3v7q2m5xa3e4d7f
    """
    removed = run_admin(options, lambda admin: admin.remove_target(target_id))
    if wants_json:
        return print_json(removed)
    click.echo(f"removed {removed['name']} of {removed['team']}")


@webhooks.command("rotate")
@click.argument("target_id", metavar="ID")
@click.option(
    "--overlap", default=DEFAULT_OVERLAP, show_default=True, help="How long the old secret signs, too; 0 ends it."
)
@click.option("--json", "wants_json", is_flag=True, help="Print the target with its new secret, as JSON.")
@connection_options
def rotate_secret(target_id: str, overlap: str, wants_json: bool, **options: Any) -> None:
    """Give a target a new secret, and print it. During the overlap, webhooks are signed with both.

    \b
    Example:
      image-gateway webhooks rotate target_k3v7q2m5xa3e4d7f --overlap 7d
    """
    _print_created(run_admin(options, lambda admin: admin.rotate_secret(target_id, overlap)), wants_json)


@webhooks.command("test")
@click.argument("target_id", metavar="ID")
@click.option("--json", "wants_json", is_flag=True, help="Print the delivery as JSON.")
@connection_options
def send_test(target_id: str, wants_json: bool, **options: Any) -> None:
    """Send a webhook of the type webhook.test to a target, and print its outcome. Needs a running gateway (--url).

    Exits with 1 unless the target accepted it.

    \b
    Example:
      image-gateway webhooks test target_k3v7q2m5xa3e4d7f
    """
    delivery = run_admin(options, lambda admin: admin.send_test(target_id))
    if wants_json:
        print_json(delivery)
    else:
        click.echo(f"{delivery['target']} at {delivery['host']}: {_describe_outcome(delivery)}")
    if delivery["status"] != "delivered":
        raise SystemExit(1)


# --- output


def _print_created(created: Json, wants_json: bool) -> None:
    """Prints a target with its new secret. Only the secret goes to standard output, so that a script can store it."""
    if wants_json:
        return print_json(created)
    print_table(TARGET_COLUMNS, [_format_target(created)], err=True)
    if created["secret"] is None:
        return click.echo("It is signed with the secrets of its team in teams.yaml.", err=True)
    click.echo("This is the only time the secret is shown:", err=True)
    click.echo(created["secret"])


def _print_target(target: Json, wants_json: bool) -> None:
    if wants_json:
        return print_json(target)
    print_table(TARGET_COLUMNS, [_format_target(target)])


def _format_target(target: Json) -> tuple[str, ...]:
    events = "" if tuple(target["events"]) == JOB_EVENTS else ",".join(target["events"])
    state = "enabled" if target["enabled"] else "disabled"
    columns = (target["id"], target["team"], target["name"], target["url"], events, target["payload"])
    return (*columns, _describe_secrets(target), state, target["origin"], target["description"])


def _describe_secrets(target: Json) -> str:
    if target["signed_with"] is None:
        return "no secret"
    until = [format_time(secret["expires_at"]) for secret in target["secrets"] if secret["expires_at"] is not None]
    name = target["signed_with"].replace("_", " ")
    return f"{name}, the old one until {until[0]}" if until else name


def _describe_outcome(delivery: Json) -> str:
    if not delivery["attempts"]:
        return "not sent yet"
    attempt = delivery["attempts"][-1]
    status = f" with status {attempt['status']}" if attempt["status"] is not None else ""
    return f"{attempt['outcome'].replace('_', ' ')}{status} after {attempt['seconds']:.1f} s"
