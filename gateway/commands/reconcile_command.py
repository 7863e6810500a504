"""`image-gateway reconcile`: compares a seller's invoice with the ledger, and books corrections."""

import asyncio
import getpass
import secrets
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.commands.config_helpers import CONFIG_HELP, load_config
from gateway.commands.ledger_sources import open_configured_store
from gateway.commands.option_types import parse_pairs
from gateway.commands.text_tables import print_table
from gateway.config.default_config import find_config_folder
from gateway.ledger.charge_list_reader import list_charges
from gateway.ledger.invoice_file import FIELDS, InvalidInvoice, SellerCharge, merge_charges, read_invoice
from gateway.ledger.reconciliation import OrderFinding, Period, ReconciliationOutcome, count_outcomes
from gateway.ledger.reconciliation_runner import (
    Auditor,
    book_corrections,
    compare_charges,
    select_period,
)
from gateway.money import format_usd
from gateway.store.base import DAY_SECONDS
from gateway.upstream.seller_client import SellerClient

COLUMNS = ("outcome", "order", "charged", "booked", "suspected", "job")
UNLISTED_OUTCOMES = (ReconciliationOutcome.MATCHED, ReconciliationOutcome.OUTSIDE_PERIOD)
MAX_INVOICE_BYTES = 512 * 1024 * 1024


class DayType(click.ParamType[float]):
    """A day, in UTC."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
        except ValueError:
            self.fail(f"'{value}' is not a day such as 2026-11-01", param, ctx)


@click.command("reconcile")
@click.argument("seller")
@click.option(
    "--invoice",
    "invoices",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A CSV file; repeat it to compare several invoices as one.",
)
@click.option("--from-seller", is_flag=True, help="Read the seller's own list of charges instead; needs --since.")
@click.option(
    "--column", "columns", multiple=True, callback=parse_pairs, help=f"FIELD=NAME, of {', '.join(FIELDS)}; repeatable."
)
@click.option(
    "--since", type=DayType(), help="The first day that the invoice covers.  [default: that of its first charge]"
)
@click.option(
    "--until", type=DayType(), help="The last day.  Never later than a day ago.  [default: that of its last charge]"
)
@click.option("--apply", "wants_apply", is_flag=True, help="Book the corrections. Without it, nothing is changed.")
@click.option("--json", "wants_json", is_flag=True, help="As JSON, with the orders that match.")
@click.option("--config", type=click.Path(path_type=Path), help=CONFIG_HELP)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of SQLite.")
def reconcile(
    seller: str,
    invoices: tuple[Path, ...],
    columns: dict[str, str],
    wants_apply: bool,
    wants_json: bool,
    **options: Any,
) -> None:
    """Compare the invoice of SELLER with the ledger, order by order.

    \b
    matched                 both have the same amount
    suspected, charged      the ledger was not sure: --apply books it as orphaned
    suspected, not charged  the ledger was not sure: --apply reverses it
    missing here            only the seller has it: --apply books it as orphaned
    missing there           only the ledger has it: ask the seller, or wait for the next invoice
    price differs           --apply books the difference as excess
    invoice incomplete      another invoice may have a part of it: compare both together
    in progress             the order is not settled yet, or younger than a day
    outside of the period   the order may be on another invoice: not compared

    Columns are recognised by their names: an order id or the gateway's reference, an amount in USD, and, if there are
    any, the time and the number of images. The spend of teams never changes. SQLite belongs to one process: stop the
    gateway first. With Redis, set the same environment variables as for `serve`.

    \b
    Examples:
      image-gateway reconcile runapi --invoice november.csv
      image-gateway reconcile runflow --from-seller --since 2026-11-01
      image-gateway reconcile runapi --invoice november.csv --column order="Task" --column amount="Cost (USD)" --apply
    """
    if unknown := set(columns) - set(FIELDS):
        raise click.UsageError(f"--column {sorted(unknown)[0]}: the fields are {', '.join(FIELDS)}")
    if (not invoices) != options["from_seller"]:
        raise click.UsageError("choose --invoice FILE or --from-seller")
    try:
        charges = _read_files(invoices, columns) if invoices else _read_from_seller(seller, options)
        until = options["until"]
        last_at = None if until is None else until + DAY_SECONDS - 1
        period = select_period(charges, time.time(), options["since"], last_at)
        findings, booked = asyncio.run(_compare_and_book(seller, charges, period, wants_apply, options))
    except InvalidInvoice as error:
        raise click.ClickException(str(error)) from None
    if wants_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_serialize(finding) for finding in findings])).decode())
    else:
        _print_findings(findings)
    _print_summary(findings, booked if wants_apply else None)


def _read_files(invoices: tuple[Path, ...], columns: dict[str, str]) -> tuple[SellerCharge, ...]:
    return tuple(merge_charges(charge for invoice in invoices for charge in _read_file(invoice, columns)))


def _read_file(invoice: Path, columns: dict[str, str]) -> tuple[SellerCharge, ...]:
    if invoice.stat().st_size > MAX_INVOICE_BYTES:
        raise InvalidInvoice("The invoice is larger than 512 MiB: split it by its days.")
    try:
        return read_invoice(invoice.read_text(encoding="utf-8"), columns)
    except UnicodeDecodeError:
        raise InvalidInvoice("The invoice is not text in UTF-8.") from None


def _read_from_seller(seller: str, options: dict[str, Any]) -> tuple[SellerCharge, ...]:
    if options["since"] is None:
        raise click.UsageError("--from-seller needs --since: the day from which charges are listed")
    catalogue = load_config(find_config_folder(options["config"])).catalogue
    offers = catalogue.iter_offers() if catalogue else ()
    found = next((offer.seller for offer in offers if offer.seller.name == seller), None)
    if found is None:
        raise click.ClickException(f"'{seller}' is not a configured seller. Run image-gateway check")
    endpoint = found.adapter.list_charges
    if endpoint is None:
        raise click.ClickException(f"{seller} has no route that lists charges. Use --invoice.")

    async def fetch() -> tuple[SellerCharge, ...]:
        async with SellerClient() as client:
            return tuple(merge_charges(await list_charges(client, found, endpoint, options["since"])))

    return asyncio.run(fetch())


def _list_sellers_of_account(seller: str, options: dict[str, Any]) -> list[str]:
    """Lists the sellers whose orders may be on the invoice: those with the same account, this one first."""
    catalogue = load_config(find_config_folder(options["config"]), with_secrets=False).catalogue
    sellers = [offer.seller for offer in catalogue.iter_offers()] if catalogue else []
    accounts = {found.account.name for found in sellers if found.name == seller}
    others = {found.name for found in sellers if found.account.name in accounts and found.name != seller}
    return [seller, *sorted(others)]


async def _compare_and_book(
    seller: str, charges: tuple[SellerCharge, ...], period: Period, wants_apply: bool, options: dict[str, Any]
) -> tuple[tuple[OrderFinding, ...], int]:
    async with open_configured_store(options["config"], options["data"]) as store:
        now = time.time()
        sellers = _list_sellers_of_account(seller, options)
        findings = await compare_charges(store, sellers, charges, period, now)
        auditor = Auditor(f"cli:{getpass.getuser()}", socket.gethostname(), secrets.token_bytes)
        return findings, await book_corrections(store, seller, findings, auditor, now) if wants_apply else 0


def _print_findings(findings: tuple[OrderFinding, ...]) -> None:
    rows = [
        (
            finding.outcome.value,
            finding.order_id,
            *(f"${format_usd(amount)}" for amount in (finding.charged, finding.booked, finding.suspected)),
            finding.job,
        )
        for finding in sorted(
            findings, key=lambda finding: (list(ReconciliationOutcome).index(finding.outcome), finding.order_id)
        )
        if finding.outcome not in UNLISTED_OUTCOMES
    ]
    if rows:
        print_table(COLUMNS, rows)


def _print_summary(findings: tuple[OrderFinding, ...], booked: int | None) -> None:
    counts = count_outcomes(findings)
    texts = [f"{counts[outcome]} {outcome.value}" for outcome in ReconciliationOutcome if counts.get(outcome)]
    click.echo("; ".join(texts) or "no orders", err=True)
    compared = [finding for finding in findings if finding.outcome is not ReconciliationOutcome.OUTSIDE_PERIOD]
    charged, ledger = (sum(getattr(finding, name) for finding in compared) for name in ("charged", "booked"))
    difference = format_usd(charged - ledger)
    click.echo(f"charged ${format_usd(charged)}, booked ${format_usd(ledger)}, difference ${difference}", err=True)
    correctable = sum(finding.correction is not None for finding in findings)
    if booked is not None:
        click.echo(f"booked {booked} corrections", err=True)
    elif correctable:
        click.echo(f"{correctable} corrections can be booked with --apply", err=True)


def _serialize(finding: OrderFinding) -> dict[str, Any]:
    amounts = {name: getattr(finding, name) for name in ("charged", "booked", "suspected")}
    return {
        "outcome": finding.outcome,
        "order": finding.order_id,
        "job": finding.job or None,
        **{name: msgspec.Raw(format_usd(amount).encode()) for name, amount in amounts.items()},
        "is_correctable": finding.correction is not None,
    }
