"""Each call to a seller has one event, however it ends, and none if traces are not exported."""

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.engine.seller_call_events import SellerCall, observe_seller_call
from gateway.events import Event, SellerCallEnded, SellerCallStep
from gateway.jobs.first_commit import build_first_commit
from gateway.upstream.download import DownloadError
from providers.adapter import Answer
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer
from tests.unit.jobs.job_scenario import START, make_new_job

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
JOB = build_first_commit(make_new_job(traceparent=TRACEPARENT), START).job
CALL_SECONDS = 0.5


class ObservedCall:
    """One call that takes CALL_SECONDS. `run` returns its result, or raises its error."""

    def __init__(self, outcome: object, is_traced: bool = True) -> None:
        self.outcome, self.now, self.events = outcome, START, list[Event]()
        self.context: Any = SimpleNamespace(
            is_traced=is_traced, wall_clock=lambda: self.now, monotonic=lambda: self.now, emit=self.events.append
        )

    async def _call(self) -> object:
        self.now += CALL_SECONDS
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def run(self) -> object:
        seller_call, answer = SellerCall(JOB, 2, "runapi", SellerCallStep.POLL), self._call()
        return asyncio.run(_await(observe_seller_call(self.context, seller_call, answer)))


async def _await(awaitable: Awaitable[object]) -> object:
    return await awaitable


def make_event(**outcome: Any) -> SellerCallEnded:
    return SellerCallEnded(
        at=START + CALL_SECONDS,
        job=JOB.id,
        config=JOB.config_hash,
        traceparent=TRACEPARENT,
        seller="runapi",
        attempt=2,
        step=SellerCallStep.POLL,
        seconds=CALL_SECONDS,
        **outcome,
    )


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (Answer(404, {}, b""), make_event(status=404)),
        (NoAnswer(fault=Fault(kind=FaultKind.RESPONSE_LOST)), make_event(fault="response_lost")),
        (b"an image", make_event()),
    ],
)
def test_answer_is_returned_with_its_event(outcome: object, event: SellerCallEnded) -> None:
    observed = ObservedCall(outcome)
    assert observed.run() is outcome
    assert observed.events == [event]


@pytest.mark.parametrize(
    ("error", "fault"),
    [(DownloadError("refused"), "DownloadError"), (asyncio.CancelledError(), "CancelledError")],
)
def test_error_of_a_call_is_raised_with_its_event(error: BaseException, fault: str) -> None:
    observed = ObservedCall(error)
    with pytest.raises(type(error)):
        observed.run()
    assert observed.events == [make_event(fault=fault)]


@pytest.mark.parametrize("outcome", [Answer(200, {}, b""), DownloadError("refused")])
def test_without_traces_there_is_no_event(outcome: object) -> None:
    observed = ObservedCall(outcome, is_traced=False)
    if isinstance(outcome, DownloadError):
        with pytest.raises(DownloadError):
            observed.run()
    else:
        assert observed.run() is outcome
    assert observed.events == []
