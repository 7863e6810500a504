"""A seller that contradicts itself about orders of which the gateway has saved the truth: it rejects an order whose
ticket is saved, and polls fail after the images were saved as ready.

Without that evidence the gateway could only believe the seller.
"""

from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from gateway.jobs.job import Attempt
from tests.explore.seller_dialects import SellerDialect, SellerOrder
from tests.explore.seller_scripts import CallbackHabit, OrderScript, QueryFault, Reaction, ScriptedOutcome

# More than the polls in a row after which an unanswered order is abandoned.
MAX_CONTRADICTIONS = 4
MAX_ANSWER_SECONDS = 0.3
POLL_FAULTS = (QueryFault.FAILED, QueryFault.GARBLED, QueryFault.REFUSED)


class Contradictions:
    """The contradictions of one run. `find_attempt`: finds the saved attempt of an order by its reference."""

    def __init__(self, random: Random, find_attempt: Callable[[str], Attempt | None]) -> None:
        self._random, self._find_attempt = random, find_attempt
        self._poll_faults: dict[str, QueryFault] = {}
        self._counts: dict[str, int] = {}

    def adjust_script(self, script: OrderScript, dialect: SellerDialect) -> OrderScript:
        """Lets the order succeed, be called back early, and be polled again after its first downloads."""
        return replace(
            script,
            reaction=Reaction.ACCEPT,
            outcome=ScriptedOutcome.SUCCEED,
            callback=CallbackHabit.EARLY if dialect.search_path else script.callback,
            answer_seconds=min(script.answer_seconds, MAX_ANSWER_SECONDS),
            query_faults=(),
            download_faults=(QueryFault.LOST, QueryFault.LOST),
        )

    def is_rejected(self, order: SellerOrder) -> bool:
        """Returns whether the answer to the order is a rejection."""
        attempt = self._find_attempt(order.call.reference)
        return attempt is not None and attempt.ticket == order.id

    def take_poll_fault(self, order: SellerOrder) -> QueryFault:
        """Returns the fault of the next poll."""
        attempt = self._find_attempt(order.call.reference)
        count = self._counts.get(order.id, 0)
        if attempt is None or not attempt.images_ready or count >= MAX_CONTRADICTIONS:
            return QueryFault.NONE
        self._counts[order.id] = count + 1
        if order.id not in self._poll_faults:
            self._poll_faults[order.id] = self._random.choice(POLL_FAULTS)
        return self._poll_faults[order.id]
