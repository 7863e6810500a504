"""Where requests become jobs, and jobs answers: what both surfaces do alike."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from msgspec import Struct

from gateway.api import wishes as wishing
from gateway.api.errors import ApiError
from gateway.api.presence import Presence
from gateway.api.refused_requests import RefusedRequests
from gateway.api.wishes import Pictures, Wishes
from gateway.assets.links import Links
from gateway.assets.shelf import Missing, Shelf, ShelfError, Stream, public_words
from gateway.catalogue import Catalogue
from gateway.engine.accepting import Accepting, Ask, CallerGone, NobodySells
from gateway.engine.delivering import MEDIA_TYPES
from gateway.engine.engine import Engine
from gateway.engine.records import (
    PLAN,
    REQUEST,
    JobRecords,
    Picture,
    RequestedParams,
    picture_from,
    picture_name,
    plan_from,
    request_from,
)
from gateway.jobs.commit import UNCOUNTED, IdempotencyRecord
from gateway.jobs.job import CONFIRM_SECONDS, Job
from gateway.money import format_usd
from gateway.routing.plan import RoutingError
from gateway.store.base import (
    Applied,
    KeyReused,
    Known,
    OverBudget,
    Repeated,
    Store,
    StoreError,
    StoreUnavailable,
    StoreUnsure,
)
from gateway.upstream.input_fetcher import InputFetcher
from providers.orders import Format, Operation

IDEMPOTENCY_SECONDS = 86_400.0
# When it is worth asking again where images cannot be stored: that is looked at every few seconds.
STORAGE_SECONDS = 10
# For a job that is asked for again to be confirmed, and between two tries of one that was just accepted.
CONFIRM_TIMEOUT, CONFIRM_PAUSE = 6.0, 0.5


class Tools(Struct, frozen=True, kw_only=True):
    """What handlers work with. `draining`: this process takes no new jobs."""

    engine: Engine
    store: Store
    shelf: Shelf
    inputs: InputFetcher
    links: Links
    refused: RefusedRequests
    catalogue: Callable[[], Catalogue]
    now: Callable[[], float]
    draw: Callable[[], float]
    draining: Callable[[], bool]


class Request(Struct, frozen=True, kw_only=True):
    """What is asked, by whom, and how it may be told from another: by the caller's key, or by its body.

    `is_sdk`: a client that says so when it asks again. `is_dalle`: it expects an answer in DALL-E's form. `warnings`:
    about words of the request that were mapped or have no effect.
    """

    team: str
    wishes: Wishes
    operation: Operation
    fingerprint: str
    presence: Presence
    key: str | None = None
    is_sdk: bool = False
    retry: int = 0
    is_dalle: bool = False
    warnings: tuple[str, ...] = ()
    pictures: Pictures = Pictures()
    requested: RequestedParams = RequestedParams()

    @property
    def is_findable(self) -> bool:
        """Whether it leads to its job again when it is repeated."""
        return self.key is not None or self.is_sdk


class Taken(Struct, frozen=True):
    """The job that a request has become, or had become before."""

    job: str
    replayed: bool


async def taken_before(tools: Tools, request: Request) -> Taken | None:
    """Comes before all else that is done for a request: a job that was accepted is its job, whatever has become since
    of prices, sellers, and the pictures that it links to. It is no new one, so that draining does not matter, either.
    """
    record = _record(tools, request)
    try:
        found = await tools.store.recall(request.team, record)
    except StoreUnavailable:
        request.presence.record = record
        raise
    if found is None:
        return None
    request.presence.record = record
    # A client that repeats a request and ends its half of the connection is answered like the first.
    await request.presence.is_there()
    taken = _taken_again(found)
    return taken if await _is_confirmed(tools, taken.job) else None


async def take(tools: Tools, request: Request) -> Taken:
    """What was not taken before; if it is at this very moment, the store says so.

    ApiError says why not. Nothing was bought then, and nothing is owed.
    """
    record = tools.refused.follow(request.team, _record(tools, request))
    try:
        return await _take(tools, request, record)
    except (ApiError, StoreError, ShelfError) as error:
        is_repeated = not (isinstance(error, ApiError) and error.final)
        if is_repeated and request.presence.record is None:
            tools.refused.add(request.team, record)
        raise


async def _take(tools: Tools, request: Request, record: IdempotencyRecord) -> Taken:
    if tools.draining():
        raise ApiError(503, "draining", "This gateway is shutting down: ask again.", retry_after=1)
    if tools.shelf.problem is not None:
        why = public_words(tools.shelf.problem)
        message = f"No new job is accepted: {why}. Nothing was ordered or charged. Retry in {STORAGE_SECONDS} seconds."
        raise ApiError(503, "storage_unavailable", message, retry_after=STORAGE_SECONDS)
    catalogue = tools.catalogue()
    question = wishing.question_of(catalogue, request.wishes, request.team, request.operation, request.pictures)
    ask = Ask(
        question=question,
        team=request.team,
        inputs=request.pictures.inputs,
        mask=request.pictures.mask,
        idempotency=record,
        draw=tools.draw(),
        warnings=request.warnings,
        is_wanted=request.presence.is_there if request.key is None else None,
        has_left=(lambda: request.presence.is_lost) if request.key is None else None,
        requested=request.requested,
    )
    accepting = await _accepting(tools, request, ask)
    if isinstance(accepting.outcome, Applied | Known):
        request.presence.record = record
    if isinstance(accepting.outcome, Known) and not await _is_confirmed(tools, accepting.outcome.job):
        message = "The earlier job of this request was withdrawn just now. Nothing was ordered. Retry the request."
        raise ApiError(503, "withdrawn", message, retry_after=1)
    return _taken(accepting)


async def _accepting(tools: Tools, request: Request, ask: Ask) -> Accepting:
    try:
        return await tools.engine.accept(ask)
    except CallerGone:
        request.presence.record = ask.idempotency
        raise ApiError(499, "client_left", "The connection ended before the order: nothing was ordered.") from None
    except RoutingError as error:
        raise wishing.refused(error) from error
    except NobodySells as nobody:
        raise _nobody(nobody) from None
    except StoreUnsure:
        request.presence.record = ask.idempotency
        raise _unsure() from None


async def _is_confirmed(tools: Tools, job: str) -> bool:
    """Its caller asks for it again: so it is bought, unless it has been withdrawn already."""
    try:
        async with asyncio.timeout(CONFIRM_TIMEOUT):
            found = await tools.engine.confirm(job)
    except TimeoutError:
        raise StoreUnavailable(f"the confirmation of {job} was not saved in time") from None
    return found is None or not found.withdrawn


async def wait_for_confirmation(tools: Tools, name: str) -> Job:
    """As it is when it is saved that it will be bought, however long the store takes to do so."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            if (job := await tools.engine.confirm(name)) is None:
                raise ApiError(404, "job_not_found", "There is no such job.")
            return job
        await asyncio.sleep(CONFIRM_PAUSE)


def _taken(accepting: Accepting) -> Taken:
    match accepting.outcome:
        case Applied():
            return Taken(accepting.commit.job.id, replayed=False)
        case Known() | KeyReused() as found:
            return _taken_again(found)
        case OverBudget() as over:
            raise _over_budget(over)
        case _:
            raise ApiError(503, "store_unavailable", "The job could not be accepted; ask again.", retry_after=1)


def _taken_again(found: Repeated) -> Taken:
    if isinstance(found, KeyReused):
        message = "This Idempotency-Key belongs to a request with another body. Use a new key for a new request."
        raise ApiError(422, "idempotency_key_reused", message)
    return Taken(found.job, replayed=True)


def _unsure() -> ApiError:
    message = (
        "The gateway's job store did not say whether it has accepted this request. Retry it within "
        f"{CONFIRM_SECONDS:.0f} s, and it is ordered once; otherwise it is withdrawn, and nothing is bought."
    )
    return ApiError(503, "store_unavailable", message, retry_after=5)


def _record(tools: Tools, request: Request) -> IdempotencyRecord:
    """By what was sent alone, and not by what it leads to."""
    if request.key is not None:
        key = wishing.fingerprint("key", request.key.encode())
        return IdempotencyRecord(key=key, fingerprint=request.fingerprint, seconds=IDEMPOTENCY_SECONDS)
    print_, seconds = request.fingerprint, 2 * tools.catalogue().gateway.jobs.deadline_seconds
    return IdempotencyRecord(
        key=print_,
        fingerprint=print_,
        seconds=seconds,
        soft=True,
        retry=request.retry if request.is_sdk else UNCOUNTED,
        caller=request.presence.name,
    )


def _nobody(nobody: NobodySells) -> ApiError:
    reasons = "; ".join(f"{seller}: {', '.join(why)}" for seller, why in nobody.reasons.items())
    return ApiError(400, "no_offer", f"Nobody sells this as it is asked for. {reasons[:600]}")


def _over_budget(over: OverBudget) -> ApiError:
    left = max(0, over.limit - over.spent - over.held)
    message = (
        f"Your team's budget for {over.window} is ${format_usd(over.limit)}; ${format_usd(left)} of it is left, "
        f"${format_usd(over.held)} is set aside for running jobs."
    )
    return ApiError(429, "insufficient_quota", message, kind="insufficient_quota", final=True)


# --- results


async def job_of(tools: Tools, team: str, name: str, seconds: float = 0.0) -> Job:
    """Another team's job looks like none at all: nor is it waited for."""
    job = await tools.engine.job(name)
    if seconds > 0 and job is not None and job.team == team:
        job = await tools.engine.wait(name, seconds)
    if job is None or job.team != team:
        raise ApiError(404, "job_not_found", "There is no such job.")
    return job


async def pictures_there(tools: Tools, job: Job) -> list[Picture]:
    """Of the images that are delivered, in order."""
    names = {index: picture_name(attempt, index) for index, attempt in job.delivering_attempts.items()}
    found: Mapping[str, bytes] = await tools.store.documents(job.id, *names.values())
    return [picture_from(found[name]) for name in names.values() if name in found]


async def load_records(tools: Tools, job: Job) -> JobRecords:
    """Loads all records beside a job that its team may see, in one store request."""
    names = [picture_name(attempt, index) for index, attempt in job.delivering_attempts.items()]
    found: Mapping[str, bytes] = await tools.store.documents(job.id, REQUEST, PLAN, *names)
    if REQUEST not in found or PLAN not in found:
        raise Missing(f"{job.id} was deleted while it was read")
    return JobRecords(
        request=request_from(found[REQUEST]),
        plan=plan_from(found[PLAN]),
        pictures=tuple(picture_from(found[name]) for name in names if name in found),
    )


async def content_of(tools: Tools, picture: Picture) -> bytes:
    return await tools.shelf.get(picture.key)


async def stream_of(tools: Tools, key: str) -> Stream:
    return await tools.shelf.stream(key)


def media_type_of(key: str) -> str:
    return MEDIA_TYPES.get(Format(key.rpartition(".")[2]), "application/octet-stream")
