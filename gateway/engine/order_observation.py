"""When polls and callbacks have looked at an order, and so how late its end was noticed."""

from msgspec import Struct

from gateway.engine.commit_events import OfferFields
from gateway.events import OrderObserved
from providers.order_status import Failed, NoAnswer, Progress, Ready


class OrderObservation(Struct):
    """The polls of one order by this process. `unfinished_at`: when it was last known to be unfinished; `called_at`:
    when the first callback since then arrived; `saved_seconds`: how much earlier it caused the next poll."""

    unfinished_at: float
    polls: int = 0
    called_at: float | None = None
    saved_seconds: float = 0.0
    is_ended: bool = False

    def record_callback(self, now: float) -> None:
        if self.called_at is None:
            self.called_at = now

    def record_wakeup(self, remaining_seconds: float) -> None:
        """Records that the pause before the next poll was ended early."""
        if self.called_at is not None:
            self.saved_seconds = max(0.0, remaining_seconds)

    def record_poll(self, progress: Progress, sent_at: float) -> bool:
        """Records one poll. Returns whether it is the first that found that the order has ended."""
        self.polls += 1
        if isinstance(progress, Ready | Failed):
            was_ended, self.is_ended = self.is_ended, True
            return not was_ended
        if not isinstance(progress, NoAnswer):
            self.unfinished_at, self.called_at, self.saved_seconds = sent_at, None, 0.0
        return False

    def make_event(self, offer_fields: OfferFields, attempt_number: int, progress: Progress) -> OrderObserved:
        now = offer_fields["at"]
        ended_at = self.unfinished_at if self.called_at is None else self.called_at
        if isinstance(progress, Ready) and progress.finished_at is not None:
            # The seller's clock may be wrong.
            ended_at = min(max(progress.finished_at, self.unfinished_at), now)
        return OrderObserved(
            **offer_fields,
            attempt=attempt_number,
            polls=self.polls,
            lag_seconds=max(0.0, now - ended_at),
            saved_seconds=self.saved_seconds,
        )
