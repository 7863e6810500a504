"""How an order at RunAPI becomes a task: checked, paid for once per key, its sources fetched."""

import asyncio
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sandbox import runapi_terms as terms
from sandbox.idempotency import KeyConflictError
from sandbox.mischief import Kind, Route, Vendor
from sandbox.pictures import Picture, Source, shortened
from sandbox.runapi_callbacks import announce
from sandbox.runapi_tasks import RunapiState, Task
from sandbox.runapi_terms import Action, Wanted
from sandbox.runapi_wire import RefusalError, invalid
from sandbox.shop import Order, Outcome, OutOfCreditError
from sandbox.sources import UnreadableError


@dataclass(frozen=True, slots=True)
class Asked:
    """A create as it came in; `reference` is the caller's own name for it."""

    action: Action
    fields: Mapping[str, Any]
    body: bytes
    key: str | None
    reference: str | None


async def buy(state: RunapiState, asked: Asked) -> tuple[Task, bool]:
    """The task, and whether it was there already."""
    if _key_ignored(state, asked.key):
        return await _place(state, asked), False
    try:
        return await state.replays.once(asked.key, _input(state, asked), lambda: _place(state, asked))
    except KeyConflictError as error:
        raise RefusalError(409) from error


def _key_ignored(state: RunapiState, key: str | None) -> bool:
    if key is None or key not in state.replays:
        return False
    return state.world.mischief.take(Vendor.RUNAPI, Route.SUBMIT, (Kind.IGNORE_IDEMPOTENCY_KEY,)) is not None


def _input(state: RunapiState, asked: Asked) -> bytes:
    """What a replay must repeat. One key does not serve two actions."""
    if state.switches.replay_compares == "bytes":
        body = asked.body
    else:
        body = msgspec.json.encode(asked.fields, order="sorted")
    return asked.action.encode() + b" " + body


async def _place(state: RunapiState, asked: Asked) -> Task:
    switches = state.switches
    if found := terms.problems(asked.action, asked.fields, switches):
        raise invalid(found)
    wanted = terms.wanted(asked.action, asked.fields)
    price = terms.price(asked.action, wanted.resolution, switches)
    _want_credit(state, price)
    sources, problem = await _sources(state, wanted)
    order = _order(asked, wanted, sources, price)
    if problem:
        order.outcome, order.reason = Outcome.FAILED, ("invalid_input", problem)
    _place_order(state, order)
    task = Task(order, asked.action, switches.create_status, wanted.callback_url)
    state.keep(task)
    if Kind.EARLY_CALLBACK in order.mischief:
        await announce(state, task)
    elif not math.isinf(order.ends):
        state.world.callbacks.spawn(announce(state, task))
    return task


def _want_credit(state: RunapiState, price: int) -> None:
    state.shop.settle()
    if not state.shop.balance.covers(price):
        raise RefusalError(402)


def _place_order(state: RunapiState, order: Order) -> None:
    order.mischief = state.world.mischief.take_for_order(Vendor.RUNAPI)
    if Kind.REFUSE_CONTENT in order.mischief and state.switches.content_refusal == "refused":
        raise invalid({"prompt": ["was rejected by the safety system"]})
    try:
        state.shop.place(order)
    except OutOfCreditError as error:
        raise RefusalError(402) from error
    state.world.files.add(order.id, order.pictures[0])


def _order(asked: Asked, wanted: Wanted, sources: tuple[Source, ...], price: int) -> Order:
    """Without a ratio of its own an edit takes that of its first source."""
    first = sources[0].width / sources[0].height if sources else 1.0
    picture = Picture(
        *terms.size(wanted.ratio or first, wanted.resolution),
        format="png",
        caption=shortened(wanted.prompt),
        note=f"RunAPI {asked.action} {wanted.resolution}",
        sources=sources,
    )
    return Order(
        id=str(uuid.uuid4()),
        price=price,
        pictures=(picture,),
        quality=wanted.resolution,
        idempotency_key=asked.key,
        client_ref=asked.reference,
    )


async def _sources(state: RunapiState, wanted: Wanted) -> tuple[tuple[Source, ...], str | None]:
    """The pictures to edit; or none, and why the task is going to fail."""
    if wanted.forbidden:
        return (), "This combination of aspect_ratio and output_resolution is not supported"
    fetched = await asyncio.gather(*(_source(state, n, address) for n, address in enumerate(wanted.sources)))
    unreadable = [outcome for outcome in fetched if isinstance(outcome, str)]
    if unreadable:
        return (), unreadable[0]
    return tuple(outcome for outcome in fetched if not isinstance(outcome, str)), None


async def _source(state: RunapiState, position: int, address: str) -> Source | str:
    try:
        return await state.world.sources.picture(address)
    except UnreadableError as error:
        return f"source_image_urls[{position}] could not be read: {error}"
