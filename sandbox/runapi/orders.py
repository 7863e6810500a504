"""Creation of RunAPI's tasks: validate, fetch sources, place one order per idempotency key."""

import asyncio
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sandbox.fault_injection import InjectedFault
from sandbox.idempotency import KeyConflictError
from sandbox.image_renderer import ImageRecipe, SourceImage, shorten_prompt
from sandbox.order_simulator import InsufficientCreditError, SimulatedOrder, SimulatedOutcome
from sandbox.runapi import order_rules
from sandbox.runapi.callbacks import send_callbacks
from sandbox.runapi.http_helpers import RunapiError, validation_error
from sandbox.runapi.order_rules import TaskAction, TaskParams
from sandbox.runapi.tasks import RunapiState, RunapiTask
from sandbox.source_fetcher import SourceUnreadableError
from sandbox.vendors import RouteKind, Vendor


@dataclass(frozen=True, slots=True)
class CreateTaskCommand:
    """A create request; `client_reference` is the client's own id for it."""

    action: TaskAction
    fields: Mapping[str, Any]
    body: bytes
    idempotency_key: str | None
    client_reference: str | None


async def get_or_create_task(state: RunapiState, command: CreateTaskCommand) -> tuple[RunapiTask, bool]:
    """Returns the task, and whether it already existed."""
    if _should_ignore_key(state, command.idempotency_key):
        return await _create_new_task(state, command), False
    try:
        return await state.replay_cache.run_once(
            command.idempotency_key, _replay_fingerprint(state, command), lambda: _create_new_task(state, command)
        )
    except KeyConflictError as error:
        raise RunapiError(409) from error


def _should_ignore_key(state: RunapiState, key: str | None) -> bool:
    if key is None or key not in state.replay_cache:
        return False
    return (
        state.sandbox.fault_injector.take_rule(Vendor.RUNAPI, RouteKind.SUBMIT, (InjectedFault.IGNORE_IDEMPOTENCY_KEY,))
        is not None
    )


def _replay_fingerprint(state: RunapiState, command: CreateTaskCommand) -> bytes:
    """Returns the bytes that a replay must repeat; they include the action."""
    if state.switches.replay_compares == "bytes":
        body = command.body
    else:
        body = msgspec.json.encode(command.fields, order="sorted")
    return command.action.encode() + b" " + body


async def _create_new_task(state: RunapiState, command: CreateTaskCommand) -> RunapiTask:
    switches = state.switches
    if problems := order_rules.find_problems(command.action, command.fields, switches):
        raise validation_error(problems)
    params = order_rules.parse_task_params(command.action, command.fields)
    price = order_rules.get_price(command.action, params.resolution, switches)
    _check_credit(state, price)
    sources, problem = await _fetch_sources(state, params)
    order = _build_order(command, params, sources, price)
    if problem:
        order.outcome, order.failure = SimulatedOutcome.FAILED, ("invalid_input", problem)
    _place_order(state, order)
    task = RunapiTask(order, command.action, switches.create_status, params.callback_url)
    state.add_task(task)
    if InjectedFault.EARLY_CALLBACK in order.fault_rules:
        await send_callbacks(state, task)
    elif not math.isinf(order.ends_at):
        state.sandbox.callback_sender.start_task(send_callbacks(state, task))
    return task


def _check_credit(state: RunapiState, price: int) -> None:
    state.simulator.settle_finished()
    if not state.simulator.balance.can_cover(price):
        raise RunapiError(402)


def _place_order(state: RunapiState, order: SimulatedOrder) -> None:
    order.fault_rules = state.sandbox.fault_injector.take_order_rules(Vendor.RUNAPI)
    if InjectedFault.REFUSE_CONTENT in order.fault_rules and state.switches.content_refusal == "refused":
        raise validation_error({"prompt": ["was rejected by the safety system"]})
    try:
        state.simulator.place_order(order)
    except InsufficientCreditError as error:
        raise RunapiError(402) from error
    state.sandbox.file_store.add_image(order.id, order.images[0])


def _build_order(
    command: CreateTaskCommand, params: TaskParams, sources: tuple[SourceImage, ...], price: int
) -> SimulatedOrder:
    """Builds the order. Without a ratio, an edit takes the ratio of its first source."""
    source_ratio = sources[0].width / sources[0].height if sources else 1.0
    image = ImageRecipe(
        *order_rules.compute_size(params.ratio or source_ratio, params.resolution),
        format="png",
        caption=shorten_prompt(params.prompt),
        note=f"RunAPI {command.action} {params.resolution}",
        sources=sources,
    )
    return SimulatedOrder(
        id=str(uuid.uuid4()),
        price_micros=price,
        images=(image,),
        quality=params.resolution,
        idempotency_key=command.idempotency_key,
        client_ref=command.client_reference,
    )


async def _fetch_sources(state: RunapiState, params: TaskParams) -> tuple[tuple[SourceImage, ...], str | None]:
    """Fetches the images to edit; after a failure returns none, and the reason why the task fails."""
    if params.is_forbidden:
        return (), "This combination of aspect_ratio and output_resolution is not supported"
    fetched = await asyncio.gather(
        *(_fetch_source(state, position, address) for position, address in enumerate(params.source_urls))
    )
    problems = [result for result in fetched if isinstance(result, str)]
    if problems:
        return (), problems[0]
    return tuple(result for result in fetched if not isinstance(result, str)), None


async def _fetch_source(state: RunapiState, position: int, address: str) -> SourceImage | str:
    try:
        return await state.sandbox.source_fetcher.fetch_image(address)
    except SourceUnreadableError as error:
        return f"source_image_urls[{position}] could not be read: {error}"
