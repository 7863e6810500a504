"""Whose invoice it is: the sellers of one account, and sellers of earlier configurations whose orders it has. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from msgspec import Struct

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.job import order_reference
from gateway.ledger.invoice_file import InvalidInvoice, SellerCharge
from gateway.suggestions import did_you_mean


class UnknownSeller(InvalidInvoice):
    """Nothing that is configured has this name, and the ledger has no order of it."""


class InvoiceSellers(Struct, frozen=True):
    """The sellers whose orders may be on an invoice. Charges that the ledger does not have belong to the first one.

    `accounts`: the account of each configured seller.
    """

    names: tuple[str, ...]
    accounts: Mapping[str, str]


def select_sellers(name: str, accounts: Mapping[str, str]) -> InvoiceSellers:
    """Selects the seller of this name with those of the same account, or the sellers of the account of this name.
    Another name may be that of a seller of an earlier configuration."""
    account = accounts.get(name, name)
    others = tuple(sorted(seller for seller, other in accounts.items() if other == account and seller != name))
    return InvoiceSellers((name, *others) if name in accounts or not others else others, accounts)


def add_former_sellers(
    sellers: InvoiceSellers, charges: Iterable[SellerCharge], entries: Iterable[LedgerEntry]
) -> tuple[str, ...]:
    """Returns the sellers, and those of earlier configurations whose orders are charged. Raises InvalidInvoice for an
    unknown seller, and for an invoice of another account."""
    charges = list(charges)
    charged = {text for charge in charges for text in (charge.order_id, charge.reference) if text}
    orders_by_seller = defaultdict[str, set[str]](set)
    has_entries = False
    for entry in entries:
        reference = order_reference(entry.job, entry.attempt)
        if entry.seller in sellers.names:
            has_entries = True
        elif charged.intersection((entry.ticket, reference)):
            orders_by_seller[entry.seller].add(reference if entry.attempt else entry.ticket)
    if sellers.names[0] not in sellers.accounts and not has_entries:
        raise UnknownSeller(_describe_unknown_seller(sellers))
    for seller, orders in sorted(orders_by_seller.items()):
        if seller in sellers.accounts:
            raise InvalidInvoice(
                f"{len(orders)} of {len(charges)} orders on the invoice are of the seller {seller}, which has another "
                f"account. Nothing was booked: image-gateway reconcile {seller} compares this invoice."
            )
    return (*sellers.names, *sorted(orders_by_seller))


def _describe_unknown_seller(sellers: InvoiceSellers) -> str:
    name, known = sellers.names[0], sorted({*sellers.accounts, *sellers.accounts.values()})
    return (
        f"'{name[:60]}' is neither a configured seller nor an account, and the ledger has no orders of it on these days"
        f"{did_you_mean(name, known)}"
    )
