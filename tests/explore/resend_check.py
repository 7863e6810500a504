"""The check of resent orders: a worker does not order images once more that its job does not need any longer."""

from collections.abc import Awaitable
from typing import Any

from gateway.catalogue import Seller
from gateway.engine.engine import Engine
from gateway.upstream.seller_client import CallOptions
from providers.adapter import Answer, Call
from providers.order_status import NoAnswer
from tests.explore.seller_dialects import DIALECTS


class ResendCheck:
    """Stands before the seller client of one replica. `get_engine`: returns the engine of that replica. `violations`:
    gets what it finds."""

    def __init__(self, client: Any, get_engine: Any, violations: list[str]) -> None:
        self._client, self._get_engine, self._violations = client, get_engine, violations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def send(self, call: Call, seller: Seller, options: CallOptions) -> Awaitable[Answer | NoAnswer]:
        dialect = DIALECTS[seller.adapter.name]
        if dialect.order_path.fullmatch(call.location) and call.method == "POST":
            self._check(self._get_engine(), dialect.read_order(call).reference)
        return self._client.send(call, seller, options)  # type: ignore[no-any-return]

    def _check(self, engine: Engine, reference: str) -> None:
        job_id, _, number = reference.rpartition("-")
        if (worker := engine.workers.get(job_id)) is None:
            return
        job, attempt = worker.job, worker.job.get_attempt(int(number))
        is_wanted = job.find_part(int(number)) is not None and not job.is_cancel_requested
        if attempt is not None and attempt.response_lost_at is not None and not is_wanted:
            self._violations.append(f"sent again: the order {reference} was lost, and its images are not wanted")
