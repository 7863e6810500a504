"""The charges of an account, as the seller lists them: page by page."""

from msgspec import Struct


class ChargeQuery(Struct, frozen=True):
    """A page of the charges for orders that were created since `first_at`, in Unix seconds. `cursor`: of the next page;
    empty for the first one."""

    first_at: float
    cursor: str = ""


class ListedCharge(Struct, frozen=True, kw_only=True):
    """The charge for one order, in micro-USD; 0 if the order was free."""

    order_id: str
    amount: int
    reference: str = ""
    charged_at: float | None = None


class ChargePage(Struct, frozen=True):
    """A page of charges. `next_cursor`: empty on the last page."""

    charges: tuple[ListedCharge, ...]
    next_cursor: str = ""
