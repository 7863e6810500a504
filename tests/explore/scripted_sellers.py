"""Sellers that follow scripts and replace the seller client: with real wire formats, an invoice, and every
misbehaviour.

All replicas share them, as they share the real sellers. An order that has arrived continues without its sender.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from types import SimpleNamespace
from typing import Any

from msgspec.structs import replace

from gateway.catalogue import Seller
from gateway.memory_budget import MemoryBudget
from gateway.upstream.download import DownloadError
from gateway.upstream.seller_client import CallOptions
from providers.adapter import Answer, Call
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer
from tests.explore.contradictions import Contradictions
from tests.explore.scripted_uploads import ScriptedUploads
from tests.explore.seller_dialects import DIALECTS, SellerDialect, SellerOrder, find_order_id, render_image, render_json
from tests.explore.seller_scripts import (
    CallbackHabit,
    OrderScript,
    QueryFault,
    Reaction,
    ScriptedOutcome,
    SellerMood,
    draw_order_script,
)
from tests.explore.story import Story

QUERY_SECONDS = 0.02
CALLBACK_RETRY_SECONDS, MAX_CALLBACK_TRIES = 3.0, 4
LATE_CALLBACK_SECONDS = 30.0
# A stuck order never ends. Its seller charges nothing.
NEVER = float("inf")
# Receives the path and query of a callback URL, its headers and its body. Returns whether it was accepted.
CallbackReceiver = Callable[[str, dict[str, str], bytes], Awaitable[bool]]


class ScriptedSellers:
    """The sellers. `orders`: the accepted orders by id, which are the invoice. `arrivals` and `searches`: by reference,
    when an order was sent to them, and when it was searched for. `contradictions`: those of a run that has any."""

    transport_pool: Any = SimpleNamespace(get=lambda *_: None)
    memory_budget = url_memory_budget = MemoryBudget()

    def __init__(self, random: Random, story: Story, is_calm: bool, mood: SellerMood = SellerMood.USUAL) -> None:
        self.orders: dict[str, SellerOrder] = {}
        self.arrivals, self.searches = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
        self.receive_callback: CallbackReceiver | None = None
        self.contradictions: Contradictions | None = None
        self._random, self._story, self._is_calm, self._mood = random, story, is_calm, mood
        self._orders_by_key: dict[tuple[str, str], tuple[bytes, SellerOrder]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._uploads = ScriptedUploads(random, story, is_calm)
        self.memory_budget = self.url_memory_budget = MemoryBudget()

    async def aclose(self) -> None:
        """Does nothing: there are no connections."""

    # --- what the engine calls

    async def send(self, call: Call, seller: Seller, options: CallOptions) -> Answer | NoAnswer:
        task = self._start_task(self._handle(call, seller))
        try:
            async with asyncio.timeout(options.timeout_seconds):
                return await asyncio.shield(task)
        except TimeoutError:
            return _build_no_answer(FaultKind.RESPONSE_LOST)

    async def download(self, url: str, private: bool, **_: Any) -> bytes:
        await asyncio.sleep(QUERY_SECONDS)
        order = self.orders[url.split("/")[3]]
        fault = _get_fault(order.script.download_faults, len(order.downloads))
        order.downloads.append((asyncio.get_running_loop().time(), fault))
        match fault:
            case QueryFault.NONE:
                return render_image(url)
            case QueryFault.GARBLED:
                return render_image(url)[:-20]
            case _:
                raise DownloadError("the download failed", is_permanent=fault is QueryFault.NOT_FOUND)

    def _start_task(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _handle(self, call: Call, seller: Seller) -> Answer | NoAnswer:
        dialect = DIALECTS[seller.adapter.name]
        if seller.account.api_key is None and not call.is_presigned:
            # The real client sends nothing.
            return _build_no_answer(FaultKind.NOT_SENT)
        if dialect.order_path.fullmatch(call.location) and call.method == "POST":
            return await self._handle_order(call, seller, dialect)
        await asyncio.sleep(QUERY_SECONDS)
        return self._uploads.handle(call, seller.account.name) or self._answer_query(call, seller, dialect)

    # --- orders

    async def _handle_order(self, call: Call, seller: Seller, dialect: SellerDialect) -> Answer | NoAnswer:
        script = draw_order_script(self._random, self._is_calm, self._mood)
        if self.contradictions is not None:
            script = self.contradictions.adjust_script(script, dialect)
        reference = dialect.read_order(call).reference
        self.arrivals[reference].append(asyncio.get_running_loop().time())
        self._story.tell(seller.account.name, f"gets order {reference}: {script.reaction}")
        await asyncio.sleep(script.answer_seconds / 2)
        match script.reaction:
            case Reaction.NOT_SENT:
                return _build_no_answer(FaultKind.NOT_SENT)
            case Reaction.LOSE_REQUEST:
                return _build_no_answer(FaultKind.RESPONSE_LOST)
            case Reaction.REJECT:
                return _render_rejection(dialect, script)
            case Reaction.FAIL_BEFORE:
                return Answer(script.status, {}, b"<html>proxy error</html>")
        order = self._find_or_create_order(call, seller, dialect, script)
        if order is None:
            return render_json(409, {"error": "this idempotency key has another body"})
        return await self._answer_order(order, script, dialect)

    def _find_or_create_order(
        self, call: Call, seller: Seller, dialect: SellerDialect, script: OrderScript
    ) -> SellerOrder | None:
        """Only a trusted account recognizes an idempotency key. Returns None if the key was used with another body."""
        key, digest = (seller.name, call.headers.get("idempotency-key", "")), _digest_body(call)
        if seller.account.replay_trusted and key in self._orders_by_key:
            known_digest, order = self._orders_by_key[key]
            return order if known_digest == digest else None
        order = self._create_order(call, seller, dialect, script)
        self._orders_by_key[key] = digest, order
        return order

    def _create_order(self, call: Call, seller: Seller, dialect: SellerDialect, script: OrderScript) -> SellerOrder:
        is_early = script.callback is CallbackHabit.EARLY
        seconds = NEVER if script.outcome is ScriptedOutcome.STAY_IN_PROGRESS else 0.0 if is_early else script.seconds
        account, order_call = seller.account.name, dialect.read_order(call)
        order = SellerOrder(
            id=f"order-{len(self.orders) + 1}",
            account=account,
            call=order_call,
            price=dialect.price,
            base_price=dialect.base_price + dialect.input_price * len(order_call.sources),
            input_digests=tuple(self._uploads.find_digest(account, source) for source in order_call.sources),
            script=script,
            ends_at=asyncio.get_running_loop().time() + seconds,
        )
        self.orders[order.id] = order
        self._story.tell(
            order.account,
            f"accepts {order.call.reference} as {order.id}: {order.call.image_count} images, "
            f"{script.outcome} after {seconds:.2f} s, charge {order.charge}",
        )
        if order.call.callback_url and dialect.build_callback and not is_early:
            self._start_task(self._send_callbacks(order, dialect))
        return order

    async def _answer_order(self, order: SellerOrder, script: OrderScript, dialect: SellerDialect) -> Answer | NoAnswer:
        if dialect.build_callback and script.callback is CallbackHabit.EARLY and order.call.callback_url:
            await self._send_callbacks(order, dialect)
        if dialect.is_synchronous and script.reaction is Reaction.ACCEPT:
            await asyncio.sleep(max(0.0, min(order.ends_at - asyncio.get_running_loop().time(), 86_400.0)))
        await asyncio.sleep(script.answer_seconds / 2)
        if self.contradictions is not None and self.contradictions.is_rejected(order):
            return render_json(429, dialect.render_error(429, False))
        return _render_answer(order, script, dialect)

    # --- queries

    def _answer_query(self, call: Call, seller: Seller, dialect: SellerDialect) -> Answer | NoAnswer:
        if reference := find_order_id(dialect.search_path, call.location):
            return self._answer_search(reference, seller, dialect)
        order = self.orders.get(find_order_id(dialect.query_path, call.location) or "")
        if order is None or order.account != seller.account.name:
            return render_json(404, dialect.render_error(404, False))
        fault = self._take_query_fault(order, dialect)
        return fault or render_json(200, dialect.render_status(order, self._has_ended(order)))

    def _answer_search(self, reference: str, seller: Seller, dialect: SellerDialect) -> Answer | NoAnswer:
        """Lists another order of the account first: a search may find texts that are similar."""
        self.searches[reference].append(asyncio.get_running_loop().time())
        own_orders = [order for order in self.orders.values() if order.account == seller.account.name]
        found = [order for order in own_orders if order.call.reference == reference]
        others = [order for order in own_orders if order.call.reference != reference]
        if found and (fault := self._take_query_fault(found[0], dialect)):
            return fault
        return render_json(200, {"items": [dialect.render_accepted(order) for order in (*others[:1], *found)]})

    def _take_query_fault(self, order: SellerOrder, dialect: SellerDialect) -> Answer | NoAnswer | None:
        fault = self.contradictions.take_poll_fault(order) if self.contradictions is not None else QueryFault.NONE
        if fault is QueryFault.NONE:
            fault = _get_fault(order.script.query_faults, len(order.queries))
        order.queries.append((asyncio.get_running_loop().time(), fault))
        match fault:
            case QueryFault.LOST:
                return _build_no_answer(FaultKind.RESPONSE_LOST)
            case QueryFault.UNAVAILABLE:
                return Answer(503, {}, b"<html>proxy error</html>")
            case QueryFault.GARBLED:
                return Answer(200, {}, b'{"truncated')
            case QueryFault.NOT_FOUND:
                return Answer(404, {}, b"")
            case QueryFault.REFUSED:
                return render_json(400, dialect.render_error(400, True))
            case QueryFault.FAILED:
                return render_json(200, dialect.render_status(_make_failed(order), True))
        return None

    def _has_ended(self, order: SellerOrder) -> bool:
        return asyncio.get_running_loop().time() >= order.ends_at

    # --- callbacks

    async def _send_callbacks(self, order: SellerOrder, dialect: SellerDialect) -> None:
        habit = order.script.callback
        if habit is CallbackHabit.NEVER or order.ends_at == NEVER:
            return
        if habit is CallbackHabit.CROSSED and dialect.search_path:
            await self._send_crossed_callback(order, dialect)
        await asyncio.sleep(max(0.0, order.ends_at - asyncio.get_running_loop().time()))
        if habit is CallbackHabit.LATE:
            await asyncio.sleep(LATE_CALLBACK_SECONDS)
        if habit is CallbackHabit.FORGED:
            await self._deliver_callback(order, {"runflow-signature": "forged"}, b'{"id": "order-1"}')
        for _ in range(2 if habit is CallbackHabit.TWICE else 1):
            await self._deliver_callback(order, *dialect.build_callback(order, order.id, self._get_wall_time()))

    async def _send_crossed_callback(self, order: SellerOrder, dialect: SellerDialect) -> None:
        """Sends the id of another order at once, perhaps before the gateway has received that of this one.

        Not for sellers that cannot name the reference of an order: there the gateway trusts the URL of a callback.
        """
        if other_ids := [order_id for order_id in self.orders if order_id != order.id]:
            callback = dialect.build_callback(order, self._random.choice(other_ids), self._get_wall_time())
            await self._deliver_callback(order, *callback)

    def _get_wall_time(self) -> float:
        return asyncio.get_running_loop().time()

    async def _deliver_callback(self, order: SellerOrder, headers: dict[str, str], body: bytes) -> None:
        for _ in range(MAX_CALLBACK_TRIES):
            is_accepted = await self.receive_callback(order.call.callback_url, headers, body)
            self._story.tell(
                order.account, f"calls back for {order.call.reference}: {'accepted' if is_accepted else 'refused'}"
            )
            if is_accepted:
                return
            await asyncio.sleep(CALLBACK_RETRY_SECONDS)


def _render_answer(order: SellerOrder, script: OrderScript, dialect: SellerDialect) -> Answer | NoAnswer:
    match script.reaction:
        case Reaction.LOSE_ANSWER:
            return _build_no_answer(FaultKind.RESPONSE_LOST)
        case Reaction.FAIL_AFTER:
            return Answer(script.status, {}, b"<html>proxy error</html>")
        case Reaction.GARBLE:
            return Answer(200, {}, b'{"truncated')
    if not dialect.is_synchronous:
        return render_json(201, dialect.render_accepted(order))
    if order.script.outcome in (ScriptedOutcome.FAIL, ScriptedOutcome.REFUSE_CONTENT):
        return render_json(400, dialect.render_error(400, order.script.outcome is ScriptedOutcome.REFUSE_CONTENT))
    return render_json(200, dialect.render_status(order, True))


def _make_failed(order: SellerOrder) -> SellerOrder:
    return replace(order, script=replace(order.script, outcome=ScriptedOutcome.FAIL))


def _digest_body(call: Call) -> bytes:
    body = call.body if isinstance(call.body, bytes) else b"".join(part.data for part in call.body)
    return hashlib.sha256(body).digest()


def _get_fault(faults: tuple[QueryFault, ...], count: int) -> QueryFault:
    return faults[count] if count < len(faults) else QueryFault.NONE


def _build_no_answer(kind: FaultKind) -> NoAnswer:
    return NoAnswer(fault=Fault(kind=kind))


def _render_rejection(dialect: SellerDialect, script: OrderScript) -> Answer:
    headers = {"retry-after": f"{script.retry_after:.0f}"} if script.retry_after else {}
    return render_json(script.status, dialect.render_error(script.status, False), **headers)
