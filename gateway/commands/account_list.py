"""`image-gateway accounts`: which accounts at sellers are refused, and what is left on them."""

from typing import Any

import click
import msgspec

from gateway.commands.gateway_api_client import fetch_from_gateway, parse_report
from gateway.commands.option_types import GatewayUrlType, VisibleTextType
from gateway.commands.shared_options import DEFAULT_URL
from gateway.commands.text_tables import print_table

COLUMNS = ("account", "sellers", "circuit breaker", "balance", "alert below", "refused")


class ListedAccount(msgspec.Struct, frozen=True):
    """One account of the response. Further fields are ignored."""

    name: str
    sellers: list[str]
    enabled: bool
    circuit_breaker: str
    refusal: str | None
    remedy: str | None
    balance: float | None
    low_balance: float | None


class AccountList(msgspec.Struct, frozen=True):
    data: list[ListedAccount]


@click.command("accounts")
@click.option("--json", "wants_json", is_flag=True, help="As JSON, the response of GET /v1/admin/accounts.")
@click.option(
    "--url", type=GatewayUrlType(), envvar="IGW_URL", default=DEFAULT_URL, help=f"[env: IGW_URL; {DEFAULT_URL}]"
)
@click.option(
    "--admin-key", type=VisibleTextType("admin key"), envvar="IGW_ADMIN_KEY", help="[env: IGW_ADMIN_KEY; required]"
)
def accounts(wants_json: bool, **options: Any) -> None:
    """List the accounts at sellers: circuit breakers, balances, and what to do about refused ones.

    A running gateway asks each seller every five minutes. `doctor` asks at once, without a gateway.
    """
    if not options["admin_key"]:
        raise click.UsageError("an admin key is required: set --admin-key or IGW_ADMIN_KEY")
    response = fetch_from_gateway(options["url"], options["admin_key"], "/admin/accounts")
    if wants_json:
        click.echo(msgspec.json.format(response.content).decode())
        return
    listed = parse_report(response, AccountList, "list of accounts").data
    print_table(COLUMNS, [_make_row(account) for account in listed])
    for account in listed:
        if account.remedy:
            click.echo(f"{account.name}: {account.remedy}", err=True)


def _make_row(account: ListedAccount) -> tuple[str, ...]:
    return (
        account.name,
        ", ".join(account.sellers),
        account.circuit_breaker.replace("_", "-") if account.enabled else "no API key",
        _format_usd(account.balance),
        _format_usd(account.low_balance),
        (account.refusal or "").replace("_", " "),
    )


def _format_usd(amount: float | None) -> str:
    return "" if amount is None else f"${amount:.2f}"
