"""From a request to a job: planned, its inputs kept, its money set aside, saved in one step."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from msgspec import Struct

from gateway.assets.headers import Header
from gateway.assets.keys import key_of, prefix_of
from gateway.assets.shelf import ShelfError
from gateway.catalogue import Offer
from gateway.config.blocks import BudgetConfig
from gateway.config.values import Usd
from gateway.engine.hands import Hands
from gateway.engine.records import PLAN, REQUEST, TERMS, Input, RequestedParams, SavedRequest, Terms, encode
from gateway.events import Trouble
from gateway.jobs.accepting import Acceptance, OrderCost, accept
from gateway.jobs.commit import Commit, IdempotencyRecord
from gateway.jobs.commit import Limits as BudgetLimits
from gateway.jobs.ending import joined
from gateway.jobs.job import Place, Trace
from gateway.report import as_json
from gateway.routing.plan import Plan, Question, Ranked, plan
from gateway.store.base import Applied, Outcome, StoreUnavailable, StoreUnsure
from gateway.store.partitions import new_job_id
from providers.orders import Format, Inline

# How many places of a plan a job may come to: the first so many, best first.
REACH = 8
# For how long inputs may lie there without a job.
UNACCEPTED_SECONDS = 3_600.0
LEAST_PATIENCE = 420.0
PATIENCE_SHARE = 4.0


class NobodySells(Exception):
    """No offer can take this request; `reasons` says why for each seller."""

    def __init__(self, reasons: Mapping[str, Sequence[str]]) -> None:
        super().__init__("nobody sells this")
        self.reasons = reasons


class CallerGone(Exception):
    """The caller left before anything was ordered. A job that was saved meanwhile stays unconfirmed: it is bought if
    the caller asks again, and withdrawn otherwise."""


class Given(Struct, frozen=True):
    """An input image as it came, and what its bytes say of it."""

    image: Inline
    header: Header


class Ask(Struct, frozen=True, kw_only=True):
    """Everything that becomes part of a job. `warnings`: about the team's parameters, shown before anything is bought.
    `requested`: those parameters. `is_wanted`: called right before the job is saved; without it the job is wanted
    however its request ends. `has_left`: called once the job is saved, which may take long."""

    question: Question
    team: str
    inputs: tuple[Given, ...] = ()
    mask: Given | None = None
    idempotency: IdempotencyRecord | None = None
    webhook: str | None = None
    draw: float = 0.0
    warnings: tuple[str, ...] = ()
    is_wanted: Callable[[], Awaitable[bool]] | None = None
    has_left: Callable[[], bool] | None = None
    requested: RequestedParams = RequestedParams()


class Accepting(Struct, frozen=True):
    """A job that is about to be, and how the store took it."""

    commit: Commit
    outcome: Outcome
    policy: str


async def accept_request(hands: Hands, ask: Ask) -> Accepting:
    """NobodySells or RoutingError if it cannot be, CallerGone if it need not, StoreUnsure if the store does not say;
    else what it says."""
    catalogue = hands.catalogue()
    signals = hands.health.signals(catalogue, hands.clock(), hands.limits.load)
    planned = plan(catalogue, ask.question, signals, ask.draw)
    ranked = [one for one in planned.ranked if one.fit.offer.seller.account.secret][:REACH]
    if not ranked:
        raise NobodySells({one.seller: one.reasons for one in planned.excluded})
    job = new_job_id(ask.team)
    request = await _kept(hands, job, ask)
    documents = {
        REQUEST: encode(request),
        TERMS: encode(tuple(_terms(one, request.output_format) for one in ranked)),
        PLAN: msgspec.json.encode(as_json(catalogue, planned)),
    }
    if ask.webhook:
        documents["webhook"] = ask.webhook.encode()
    acceptance = _acceptance(hands, ask, planned, ranked)
    commit = accept(msgspec.structs.replace(acceptance, id=job, documents=documents), hands.now())
    if ask.is_wanted is not None and not await ask.is_wanted():
        await discard_inputs(hands, job)
        raise CallerGone
    try:
        outcome = await hands.store.commit(commit)
    except StoreUnsure:
        # The job may be there, or come yet: its inputs are kept for its caller, who may ask again.
        raise
    except StoreUnavailable:
        await discard_inputs(hands, job)
        raise
    if not isinstance(outcome, Applied):
        await discard_inputs(hands, job)
    elif ask.has_left is not None and ask.has_left():
        raise CallerGone
    return Accepting(commit, outcome, planned.policy)


async def discard_inputs(hands: Hands, job: str) -> None:
    """Of what became no job: nobody would ever look for them."""
    try:
        await hands.shelf.delete_prefix(prefix_of(job))
    except ShelfError as error:
        hands.emit(Trouble(where="inputs", what=type(error).__name__, job=job))


def _acceptance(hands: Hands, ask: Ask, planned: Plan, ranked: Sequence[Ranked]) -> Acceptance:
    catalogue, request = hands.catalogue(), ask.question.request
    team = catalogue.teams.get(ask.team)
    budget = team.budget if team else BudgetConfig()
    return Acceptance(
        id="",
        team=ask.team,
        model=request.model,
        n=request.n,
        route=tuple(_place(hands, one) for one in ranked),
        order_costs=tuple(OrderCost(one.quote.order_price, one.quote.order_ceiling) for one in ranked),
        seconds=catalogue.gateway.jobs.deadline_seconds,
        tries=planned.failover.attempts,
        reorder=planned.failover.on_unknown == "reorder",
        config=planned.config,
        webhook=ask.webhook is not None,
        warnings=joined((), ask.warnings),
        limits=BudgetLimits(day=_plain(budget.day), month=_plain(budget.month)),
        idempotency=ask.idempotency,
    )


def _plain(amount: Usd | None) -> int | None:
    return None if amount is None else int(amount)


def _place(hands: Hands, ranked: Ranked) -> Place:
    offer, cell = ranked.fit.offer, ranked.fit.cell
    price = offer.prices[cell]
    expected = offer.seconds[cell.quality]
    return Place(
        seller=offer.seller.name,
        adapter=offer.seller.adapter.name,
        model=offer.their_model,
        cell=cell,
        images=offer.images_per_order,
        price=price.price,
        ceiling=price.ceiling,
        patience=max(LEAST_PATIENCE, PATIENCE_SHARE * expected.p90),
        asks=offer.seller.adapter.poll is not None,
        trace=_trace(hands, offer),
        account=offer.seller.account.identity,
    )


def _trace(hands: Hands, offer: Offer) -> Trace:
    adapter, account = offer.seller.adapter, offer.seller.account
    if adapter.replay_key and account.replay_trusted:
        return Trace.REPLAY
    if adapter.find is not None:
        return Trace.SEARCH
    calls_back = hands.callbacks is not None and adapter.callback is not None and account.callback_secrets
    return Trace.CALLBACK if calls_back else Trace.NONE


def _terms(ranked: Ranked, wanted: Format) -> Terms:
    fit = ranked.fit
    offer, cell = fit.offer, fit.cell
    return Terms(
        size=fit.size,
        quality=cell.quality if cell.quality in offer.selectable else None,
        output_format=wanted if wanted in offer.formats else None,
        substitutions=tuple(f"{one.name}: {one.detail}" for one in fit.substitutions),
    )


async def _kept(hands: Hands, job: str, ask: Ask) -> SavedRequest:
    """Announced first: should this process end before the job is accepted, its inputs are swept."""
    request = ask.question.request
    if ask.inputs or ask.mask:
        await hands.store.announce(job, UNACCEPTED_SECONDS)
    sources = [await _input(hands, job, f"input-{number}", one) for number, one in enumerate(ask.inputs)]
    return SavedRequest(
        operation=request.operation,
        prompt=request.prompt,
        target=request.target,
        quality=request.quality,
        output_format=request.output_format,
        pixels_asked=request.pixels_asked,
        quality_asked=request.quality_asked,
        sources=tuple(sources),
        mask=await _input(hands, job, "mask", ask.mask) if ask.mask else None,
        metadata=request.metadata,
        requested=ask.requested,
    )


async def _input(hands: Hands, job: str, name: str, given: Given) -> Input:
    """Under a name of ours: a caller's own is never part of a key, and no seller needs it."""
    ending = given.header.format
    key = key_of(job, f"{name}.{ending}")
    await hands.shelf.put(key, given.image.data, given.image.media_type)
    return Input(
        key=key,
        media_type=given.image.media_type,
        name=f"{name}.{ending}",
        width=given.header.width,
        height=given.header.height,
    )
