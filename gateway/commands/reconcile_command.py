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
from gateway.ledger.finding_summary import count_outcomes, has_no_match
from gateway.ledger.invoice_file import FIELDS, InvalidInvoice, SellerCharge, merge_charges, read_invoices
from gateway.ledger.invoice_sellers import InvoiceSellers, UnknownSeller, select_sellers
from gateway.ledger.reconciliation import OrderFinding, Period, ReconciliationOutcome
from gateway.ledger.reconciliation_runner import (
    Auditor,
    book_corrections,
    compare_charges,
    select_period,
)
from gateway.money import format_usd
from gateway.store.base import DAY_SECONDS
from gateway.suggestions import did_you_mean
from gateway.upstream.seller_client import SellerClient

COLUMNS = ("outcome", "order", "charged", "booked", "suspected", "job")
UNLISTED_OUTCOMES = (ReconciliationOutcome.MATCHED, ReconciliationOutcome.OUTSIDE_PERIOD)
NO_MATCH = (
    "The ledger has none of the orders on the invoice. Is it the invoice of this seller, and is the order id in the "
    "column that is compared (--column order=NAME, --column reference=NAME)?"
)
IN_USE_HINT = "Stop the gateway first."
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
@click.option(
    "--allow-no-match", is_flag=True, help="With --apply, also if the ledger has none of the orders on the invoice."
)
@click.option("--config", type=click.Path(path_type=Path), envvar="IGW_CONFIG", help=CONFIG_HELP)
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

    SELLER is a seller, or an account with all its sellers.

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
        charges = read_invoices(map(_read_file, invoices), columns) if invoices else _read_from_seller(seller, options)
        until = options["until"]
        last_at = None if until is None else until + DAY_SECONDS - 1
        period = select_period(charges, time.time(), options["since"], last_at)
        sellers = select_sellers(seller, _list_accounts(options))
        findings, booked = asyncio.run(_compare_and_book(sellers, charges, period, wants_apply, options))
    except UnknownSeller as error:
        raise click.UsageError(str(error)) from None
    except InvalidInvoice as error:
        raise click.ClickException(str(error)) from None
    if wants_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_serialize(finding) for finding in findings])).decode())
    else:
        _print_findings(findings)
    _print_summary(findings, booked)
    if has_no_match(findings):
        click.echo(NO_MATCH, err=True)
        if wants_apply and booked is None:
            raise click.ClickException("Nothing was booked. --allow-no-match books all charges nevertheless")


def _read_file(invoice: Path) -> tuple[str, str]:
    if invoice.stat().st_size > MAX_INVOICE_BYTES:
        raise InvalidInvoice(f"{invoice} is larger than 512 MiB: split it by its days.")
    try:
        return str(invoice), invoice.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidInvoice(f"{invoice} is not text in UTF-8.") from None


def _read_from_seller(seller: str, options: dict[str, Any]) -> tuple[SellerCharge, ...]:
    if options["since"] is None:
        raise click.UsageError("--from-seller needs --since: the day from which charges are listed")
    catalogue = load_config(find_config_folder(options["config"])).catalogue
    if catalogue is None:
        raise click.ClickException("The configuration is invalid. Run image-gateway check")
    sellers = [offer.seller for offer in catalogue.iter_offers()]
    named = [other for other in sellers if seller in (other.name, other.account.name)]
    if not named:
        known = sorted({name for other in sellers for name in (other.name, other.account.name)})
        raise click.UsageError(f"'{seller}' is not a configured seller or account{did_you_mean(seller, known)}")
    found = next((other for other in named if other.adapter.list_charges is not None), None)
    if found is None or (endpoint := found.adapter.list_charges) is None:
        raise click.ClickException(f"{seller} has no route that lists charges. Use --invoice.")

    async def fetch() -> tuple[SellerCharge, ...]:
        async with SellerClient() as client:
            return tuple(merge_charges(await list_charges(client, found, endpoint, options["since"])))

    return asyncio.run(fetch())


def _list_accounts(options: dict[str, Any]) -> dict[str, str]:
    """Lists the account of each configured seller."""
    catalogue = load_config(find_config_folder(options["config"]), with_secrets=False).catalogue
    offers = catalogue.iter_offers() if catalogue else ()
    return {offer.seller.name: offer.seller.account.name for offer in offers}


async def _compare_and_book(
    sellers: InvoiceSellers,
    charges: tuple[SellerCharge, ...],
    period: Period,
    wants_apply: bool,
    options: dict[str, Any],
) -> tuple[tuple[OrderFinding, ...], int | None]:
    """Returns the findings, and how many corrections are booked; None if they are only shown."""
    async with open_configured_store(options["config"], options["data"], IN_USE_HINT) as store:
        now = time.time()
        findings = await compare_charges(store, sellers, charges, period, now)
        if not wants_apply or (has_no_match(findings) and not options["allow_no_match"]):
            return findings, None
        auditor = Auditor(f"cli:{getpass.getuser()}", socket.gethostname(), secrets.token_bytes)
        return findings, await book_corrections(store, sellers.names[0], findings, auditor, now)


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
