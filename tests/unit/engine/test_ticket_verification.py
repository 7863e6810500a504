"""A signed callback may name an order that it does not belong to."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.engine.seller_queries import verify_ticket
from gateway.timeouts_and_intervals import Timing
from providers import ADAPTERS
from providers.adapter import Answer, Call
from tests.unit.jobs.job_scenario import JobScenario, make_new_job

TASK = b'{"id":"task","status":"processing"}'


@pytest.mark.parametrize(("ticket", "is_verified"), [("run-1", False), ("run-2", True)])
def test_ticket_of_another_attempt_of_the_job_is_not_accepted(ticket: str, is_verified: bool) -> None:
    """The seller's status names no reference, so only the URL of the callback shows which order it is about."""
    scenario, queries = JobScenario(make_new_job(n=2)), list[Call]()
    scenario.receive_ticket(images=(0,))
    scenario.lose_response(images=(1,))

    async def send(call: Call, seller: object, options: object) -> Answer:
        queries.append(call)
        return Answer(status=200, headers={}, body=TASK)

    context: Any = SimpleNamespace(seller_client=SimpleNamespace(send=send), timing=Timing(), is_traced=False)
    offer: Any = SimpleNamespace(seller=SimpleNamespace(name="runapi", adapter=ADAPTERS["runapi"]))
    verification = verify_ticket(context, scenario.job, scenario.last_attempt, offer, ticket)
    assert asyncio.run(verification) is is_verified
    assert len(queries) == is_verified
