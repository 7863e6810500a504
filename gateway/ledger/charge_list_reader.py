"""Reads what a seller charged from its own list, page by page, with the seller's adapter."""

from gateway.catalogue import Seller
from gateway.ledger.invoice_file import InvalidInvoice, SellerCharge
from gateway.upstream.seller_client import CallOptions, SellerClient
from providers.adapter import Endpoint
from providers.charge_list import ChargePage, ChargeQuery
from providers.order_status import NoAnswer

TIMEOUT_SECONDS = 30.0
# A million charges, in pages of 500.
MAX_PAGES = 2_000
ChargesEndpoint = Endpoint[ChargeQuery, ChargePage | NoAnswer]


async def list_charges(
    client: SellerClient, seller: Seller, endpoint: ChargesEndpoint, first_at: float
) -> tuple[SellerCharge, ...]:
    """Lists all charges for orders since `first_at`. Raises InvalidInvoice if the seller does not show all of them."""
    charges: list[SellerCharge] = []
    query = ChargeQuery(first_at)
    for _ in range(MAX_PAGES):
        answer = await client.send(endpoint.build_call(query), seller, CallOptions(timeout_seconds=TIMEOUT_SECONDS))
        page = answer if isinstance(answer, NoAnswer) else endpoint.read_answer(answer)
        if isinstance(page, NoAnswer):
            raise InvalidInvoice(f"{seller.name} did not list its charges ({page.fault.kind}). Use --invoice.")
        charges += [
            SellerCharge(
                order_id=charge.order_id,
                reference=charge.reference,
                amount=charge.amount,
                charged_at=charge.charged_at,
            )
            for charge in page.charges
        ]
        if not page.next_cursor:
            return tuple(charges)
        query = ChargeQuery(first_at, page.next_cursor)
    raise InvalidInvoice(f"{seller.name} lists more than {MAX_PAGES} pages of charges. Choose a later --since.")
