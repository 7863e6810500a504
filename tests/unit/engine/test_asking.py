"""How large an answer may be: pictures that come with it have been paid for, however many and large they are."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.engine.asking import most_bytes_of, order_again
from gateway.engine.buying import Buyer
from gateway.engine.desk import Desk
from gateway.upstream.client import Exchange
from gateway.upstream.download import DEFAULT_LIMITS
from providers import ADAPTERS
from providers.faults import Fault, FaultKind
from providers.progress import Unanswered
from providers.spec import Call
from tests.unit.jobs.living import START, Life, acceptance

USUAL = Exchange(seconds=1.0).most_bytes
INLINE = [adapter for adapter in ADAPTERS.values() if adapter.holds_connection]
BY_LINK = [adapter for adapter in ADAPTERS.values() if not adapter.holds_connection]
ORDER = Call(method="POST", location="/orders")


@pytest.mark.parametrize("adapter", INLINE, ids=lambda adapter: adapter.name)
def test_an_answer_that_holds_pictures_may_hold_as_much_as_could_be_fetched(adapter: Any) -> None:
    for images in range(1, 11):
        as_text = images * DEFAULT_LIMITS.most_bytes * 4 // 3
        assert most_bytes_of(adapter, images) >= max(as_text, USUAL)


@pytest.mark.parametrize("adapter", BY_LINK, ids=lambda adapter: adapter.name)
def test_an_answer_that_holds_only_words_is_no_larger_than_any(adapter: Any) -> None:
    assert most_bytes_of(adapter, 10) == USUAL


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=lambda adapter: adapter.name)
@pytest.mark.parametrize("images", [1, 4])
def test_orders_are_sent_and_repeated_with_room_for_their_answers(adapter: Any, images: int) -> None:
    assert asyncio.run(_exchanges(adapter, images)) == [most_bytes_of(adapter, images)] * 2


async def _exchanges(adapter: Any, images: int) -> list[int]:
    """How much room there was for the answer to an order, and to the same order once more."""
    room: list[int] = []

    async def perform(call: Call, seller: object, exchange: Exchange) -> Unanswered:
        room.append(exchange.most_bytes)
        return Unanswered(fault=Fault(kind=FaultKind.LOST))

    async def post(*_: object) -> bool:
        return True

    account = SimpleNamespace(name="account", replay_trusted=True)
    offer: Any = SimpleNamespace(seller=SimpleNamespace(adapter=adapter, account=account))
    hands: Any = SimpleNamespace(
        upstream=SimpleNamespace(perform=perform),
        limits=SimpleNamespace(hold=lambda *_: None),
        now=lambda: START,
        shelf=None,
    )
    life = Life(acceptance(n=images))
    number = life.opens(0, tuple(range(images)))
    desk = Desk(hands, life.job, 1)
    desk.mailbox.post = post  # type: ignore[assignment,method-assign]
    follower: Any = None
    await Buyer(desk, follower).send(offer, number, ORDER)
    await order_again(hands, ORDER, offer, images)
    return room
