"""Which sellers an invoice is compared with, and which invoices are refused."""

import pytest
from msgspec.structs import replace

from gateway.ledger.invoice_file import InvalidInvoice, SellerCharge
from gateway.ledger.invoice_sellers import UnknownSeller, add_former_sellers, select_sellers
from tests.unit.ledger.sample_entry import ENTRY, JOB_ID

ACCOUNTS = {"runflow-runs": "runflow", "runflow-run": "runflow", "runapi": "runapi"}
CHARGE = SellerCharge(order_id="ticket-1", amount=40_000)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("runflow-runs", ("runflow-runs", "runflow-run")),
        ("runflow-run", ("runflow-run", "runflow-runs")),
        ("runflow", ("runflow-run", "runflow-runs")),
        ("runapi", ("runapi",)),
        ("former", ("former",)),
    ],
)
def test_name_is_of_a_seller_or_of_an_account(name: str, names: tuple[str, ...]) -> None:
    assert select_sellers(name, ACCOUNTS).names == names


def test_seller_of_an_earlier_configuration_is_compared() -> None:
    former = replace(ENTRY, seller="former")
    assert add_former_sellers(select_sellers("former", ACCOUNTS), [CHARGE], [former]) == ("former",)
    assert add_former_sellers(select_sellers("runapi", ACCOUNTS), [CHARGE], [former]) == ("runapi", "former")
    by_reference = SellerCharge(order_id="", reference=f"{JOB_ID}-1", amount=40_000)
    assert add_former_sellers(select_sellers("runapi", ACCOUNTS), [by_reference], [former]) == ("runapi", "former")
    other = SellerCharge(order_id="ticket-2", amount=40_000)
    assert add_former_sellers(select_sellers("runapi", ACCOUNTS), [other], [former]) == ("runapi",)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownSeller, match=r"neither a configured seller nor an account.*did you mean 'runapi'"):
        add_former_sellers(select_sellers("runapii", ACCOUNTS), [CHARGE], [ENTRY])


@pytest.mark.parametrize("charge", [CHARGE, SellerCharge(order_id="", reference=f"{JOB_ID}-1", amount=1)])
def test_invoice_of_another_account_is_refused(charge: SellerCharge) -> None:
    other = replace(charge, order_id="ticket-2", reference="")
    with pytest.raises(InvalidInvoice, match="1 of 2 orders on the invoice are of the seller runapi"):
        add_former_sellers(select_sellers("runflow", ACCOUNTS), [charge, other], [ENTRY])
