"""Records which replica has learned from a seller that an order exists, so that an audit finds answers that a replica
dropped."""

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.catalogue import Seller
from gateway.upstream.seller_client import CallOptions
from providers.adapter import Answer, Call
from providers.order_status import Accepted, InProgress, NoAnswer, Ready, SearchResult
from tests.explore.seller_dialects import DIALECTS, find_order_id


class AnswerRecorder:
    """Stands before the seller client of one replica. `answered_at`: when a replica has received the answer that an
    order was accepted, by the name of the replica and the reference of the order. `found_at`: when an answer
    or a search last said so."""

    def __init__(
        self,
        client: Any,
        replica_name: str,
        clock: Callable[[], float],
        answered_at: dict[tuple[str, str], float],
        found_at: dict[tuple[str, str], float],
    ) -> None:
        self._client, self._replica_name, self._clock = client, replica_name, clock
        self._answered_at, self._found_at = answered_at, found_at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def send(self, call: Call, seller: Seller, options: CallOptions) -> Awaitable[Answer | NoAnswer]:
        sending = self._client.send(call, seller, options)
        dialect = DIALECTS[seller.adapter.name]
        if dialect.order_path.fullmatch(call.location) and call.method == "POST":
            return self._record_answer(sending, seller, dialect.read_order(call).reference)
        if reference := find_order_id(dialect.search_path, call.location):
            return self._record_search(sending, seller, reference)
        return sending  # type: ignore[no-any-return]

    async def _record_answer(
        self, sending: Awaitable[Answer | NoAnswer], seller: Seller, reference: str
    ) -> Answer | NoAnswer:
        answer = await sending
        if isinstance(answer, Answer):
            progress = seller.adapter.submit.read_answer(answer)
            if isinstance(progress, Accepted | InProgress | Ready):
                now = self._clock()
                self._answered_at[self._replica_name, reference] = self._found_at[self._replica_name, reference] = now
        return answer

    async def _record_search(
        self, sending: Awaitable[Answer | NoAnswer], seller: Seller, reference: str
    ) -> Answer | NoAnswer:
        answer = await sending
        if isinstance(answer, Answer) and seller.adapter.search is not None:
            result = seller.adapter.search.read_answer(answer)
            if isinstance(result, SearchResult) and any(order.reference == reference for order in result.orders):
                self._found_at[self._replica_name, reference] = self._clock()
        return answer
