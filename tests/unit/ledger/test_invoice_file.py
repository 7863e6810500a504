"""Invoices as sellers export them: columns are recognised by their names, and amounts are exact."""

import pytest

from gateway.ledger.invoice_file import InvalidInvoice, SellerCharge, read_invoices

NINE_THIRTY = 1_795_858_200.0


@pytest.mark.parametrize(
    "text",
    [
        "order_id,client_ref,amount,images,charged_at\nrun-1,job-1,0.133,2,2026-11-28T09:30:00Z",
        "\ufeffRun ID, Client Ref, Cost, Num Images, Completed At\nrun-1, job-1, $0.133, 2, 2026-11-28 09:30:00\n\n",
        'ticket,reference,"amount_cents",quantity,time\nrun-1,job-1,13.3,2,1795858200',
        "id,idempotency_key,usd,usd_micros,images,at\nrun-1,job-1,0.13300000001,133000,2,1795858200.0",
    ],
)
def test_columns_are_recognised_by_their_names(text: str) -> None:
    assert read_invoices([("invoice", text)]) == (
        SellerCharge(order_id="run-1", reference="job-1", amount=133_000, images=2, charged_at=NINE_THIRTY),
    )


def test_columns_can_be_chosen() -> None:
    text = 'id,Task,"Cost (USD)",amount_cents\n7,run-1,0.133,999'
    charges = read_invoices([("invoice", text)], {"order": "Task", "amount": "Cost (USD)"})
    assert charges == (SellerCharge(order_id="run-1", amount=133_000),)


def test_lines_of_one_order_are_added_up_with_refunds() -> None:
    text = "order_id,amount,images\na,0.10,1\nb,0.20,1\na,-0.04,0\na,0.000001,1"
    assert read_invoices([("invoice", text)]) == (
        SellerCharge(order_id="a", amount=60_001, images=2),
        SellerCharge(order_id="b", amount=200_000, images=1),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("name,amount\na,1", "No column is recognised as an order id or a reference. The columns are name, amount"),
        ("order_id,name\na,1", "No column is recognised as an amount"),
        ("order_id,amount\na,1\nb,much", "Line 3: 'much' is not an amount"),
        ("order_id,amount\na,0.0000001", "Line 2: '0.0000001' is not an amount"),
        ("order_id,amount\na,NaN", "Line 2: 'NaN' is not an amount"),
        ("order_id,amount\n,0.10", "Line 2 has neither"),
        ("order_id,amount,time\na,0.10,noon", "Line 2: 'noon' is not a time"),
        ("order_id,amount,images\na,0.10,1.5", "Line 2: '1.5' is not a number of images"),
        ('order_id,amount\n"a,0.10', "is not CSV"),
    ],
)
def test_invalid_invoice_names_line_and_value(text: str, message: str) -> None:
    with pytest.raises(InvalidInvoice, match=message.replace("(", r"\(")):
        read_invoices([("invoice", text)])


def test_unknown_chosen_column_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InvalidInvoice, match=r"no column 'Tsk'.*Task"):
        read_invoices([("invoice", "Task,amount\na,1")], {"order": "Tsk"})


@pytest.mark.parametrize("name", ["Total", "TOTALS:", "Grand total", "sum", "Total (USD)", "Total due"])
def test_last_line_may_be_the_total(name: str) -> None:
    text = f"order_id,amount\na,0.10\nb,0.20\n{name},0.30\n"
    assert [charge.order_id for charge in read_invoices([("invoice", text)])] == ["a", "b"]
    with pytest.raises(InvalidInvoice, match=r"Line 4: the total is \$0.31, and the lines add up to \$0.30"):
        read_invoices([("invoice", text.replace("0.30", "0.31"))])


@pytest.mark.parametrize("currency", ["USD", "usd", ""])
def test_currency_may_be_named(currency: str) -> None:
    (charge,) = read_invoices([("invoice", f"order_id,amount,Currency\na,0.10,{currency}\n")])
    assert charge.amount == 100_000


def test_other_currency_is_refused() -> None:
    with pytest.raises(InvalidInvoice, match="Line 3 is in EUR: only USD"):
        read_invoices([("invoice", "order_id,amount,currency\na,0.10,USD\nb,0.10,EUR\n")])


def test_overlapping_invoices_are_refused() -> None:
    may = "order_id,amount,time\na,0.10,2026-05-31T23:00:00Z\n"
    june = "order_id,amount,time\nb,0.10,2026-06-01T01:00:00Z\n"
    assert len(read_invoices([("may.csv", may), ("june.csv", june)])) == 2
    with pytest.raises(InvalidInvoice, match=r"may.csv and copy.csv have the same content"):
        read_invoices([("may.csv", may), ("copy.csv", may)])
    both = june + "a,0.10,2026-05-31T23:00:00Z\n"
    with pytest.raises(InvalidInvoice, match=r"may.csv and june.csv overlap: both have the charge of a "):
        read_invoices([("may.csv", may), ("june.csv", both)])
