"""The results of free queries of an account at its seller: whether the API key is valid, and the balance."""

from enum import IntEnum
from typing import Annotated

from msgspec import Meta, Struct

from gateway.health.circuit_breaker import Moment, Refusal
from providers.faults import FaultKind

REFUSALS_BY_FAULT = {FaultKind.INVALID_KEY: Refusal.INVALID_KEY, FaultKind.NO_CREDIT: Refusal.NO_CREDIT}
FAULTS_BY_REFUSAL = {refusal: fault for fault, refusal in REFUSALS_BY_FAULT.items()}
Balance = Annotated[int, Meta(ge=-(10**15), le=10**15)]


class CheckOutcome(IntEnum):
    """The result of a check. Low credit: the key is valid, but the balance does not pay for the dearest image.
    Unsupported: the seller does not answer the query for this key, so it shows nothing."""

    VALID = 0
    LOW_CREDIT = 1
    INVALID_KEY = 2
    UNSUPPORTED = 3


class AccountCheck(Struct, frozen=True, array_like=True):
    """One check. `checked_at`: when it was sent. `balance`: micro-USD, None if the seller does not show it."""

    checked_at: Moment
    outcome: CheckOutcome
    balance: Balance | None = None

    def can_show(self, refusal: Refusal) -> bool:
        """Returns whether a later check can show that this refusal is over."""
        match refusal:
            case Refusal.INVALID_KEY:
                return self.outcome is not CheckOutcome.UNSUPPORTED
            case Refusal.NO_CREDIT:
                return self.balance is not None or self.outcome is CheckOutcome.LOW_CREDIT
            case Refusal.NONE:
                return False

    def ends(self, refusal: Refusal) -> bool:
        """Returns whether an order may be sent again after this refusal. A check that shows nothing any more allows it,
        too: then the next order shows it."""
        if refusal is Refusal.NO_CREDIT:
            return self.outcome in (CheckOutcome.VALID, CheckOutcome.UNSUPPORTED)
        return self.outcome is not CheckOutcome.INVALID_KEY
