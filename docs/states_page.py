"""What `docs/states.md` shows of `gateway/jobs`: its moves as diagrams, its bookings and its recovery as rows."""

from collections.abc import Iterator

from gateway.jobs.job import CONFIRMATION_TIMEOUT_SECONDS, JobState
from gateway.jobs.next_actions import (
    IMAGE_TTL_SECONDS,
    MAX_RECLAIMS_WITHOUT_PROGRESS,
    POLL_INTERVAL_SECONDS,
    RECONCILE_TIMEOUT_SECONDS,
    SEARCH_INTERVAL_SECONDS,
    AbandonAttempt,
    AbandonJob,
    AbandonLostImages,
    AttemptAction,
    AwaitCallback,
    AwaitClient,
    AwaitPreviousWorker,
    ExpireJob,
    FetchImages,
    JobAction,
    MarkResponseLost,
    PollOrder,
    ResendOrder,
    SearchOrder,
    SubmitOrder,
    WithdrawJob,
)
from gateway.jobs.transition_tables import (
    ATTEMPT_TRANSITIONS,
    JOB_TRANSITIONS,
    LEDGER_LINE_BY_CHARGE,
    PART_TRANSITIONS,
    TransitionTable,
    part_state_after,
)
from gateway.store.base import MAX_EARLY_CRASHES, MAX_LEASE_SECONDS
from providers.faults import VERDICTS, FaultKind, Verdict

Row = tuple[str, ...]
BOOKING_HEAD: Row = ("The attempt ended with", "Bought?", "Booked as", "Its images", "with `on_unknown: reorder`")
ACTIONS_HEAD: Row = ("To do", "When", "What")

_RESPONSE_LOST = "the answer to the order is lost"
ACTION_CONDITIONS: dict[type[JobAction], str] = {
    SubmitOrder: "images are waiting",
    PollOrder: "the ticket is known, and its seller can be asked",
    FetchImages: "the pictures are made, and their links are all that leads to them",
    MarkResponseLost: "an order was opened, and nobody is left who waits for its answer",
    ResendOrder: f"{_RESPONSE_LOST}; its seller is trusted with idempotency keys",
    SearchOrder: f"{_RESPONSE_LOST}; its seller lists orders by our reference",
    AwaitCallback: f"{_RESPONSE_LOST}; its seller only calls back",
    AbandonAttempt: "an order's time is over, or there is no way to trace it",
    AwaitPreviousWorker: "instead of giving up for want of any trace, for one lease after the job was taken over",
    AbandonLostImages: "pictures came with an answer, and are neither kept nor to be asked for",
    AwaitClient: "nothing was ordered, and the job's client may have got an error instead of the job",
    WithdrawJob: "the same, and the caller has not asked again in time",
    ExpireJob: "the job's deadline is over; before anything else",
    AbandonJob: f"{MAX_RECLAIMS_WITHOUT_PROGRESS - 1} owners in a row crashed without progress",
}


def render_states_body(bookings: str, actions: str) -> str:
    return f"""
# States

A **job** is what a team asked for. Its images are bought in **parts**: as many at once as the seller takes. Each try to
buy a part is an **attempt**, one order at one seller. An image that one attempt did not bring is tried again elsewhere,
as part of another. The arrows are all there are (`gateway/jobs/transition_tables.py`); tests check each step against them.

## Job

{render_diagram(JOB_TRANSITIONS)}
## Part

{render_diagram(PART_TRANSITIONS)}
## Attempt

{render_diagram(ATTEMPT_TRANSITIONS)}
## Terminal is not settled

- **Terminal** is for the team: {_join_alternatives([f"`{state}`" for state in JobState if state.is_terminal])}.
  No image is waited for any more, what was held and not spent is given back, the webhook goes out. Nothing that becomes
  known later changes it.
- **Settled** is for the money: terminal, and every attempt is closed. Until then the job stays in the index of what has
  to be looked at, however long ago its team got its answer.

In between stand orders that still run when the deadline ends the job. They are asked about until it is known what they
cost. Their pictures, if they come, are an orphan: ours to pay, never the team's. Once a seller has made the pictures,
the deadline no longer ends the job: only the pictures' own expiry does.

Some images are better than none: a job that ends with a part of them is `completed`, pays for those, and says in its
`warnings` how many are there. One that was cancelled is `cancelled`, whatever arrived, and pays for what did.

## What was bought, and what then

Delivered images are booked as `capture`, the only line that a team pays. What else an attempt cost:

{bookings}
With all tries used up, or the deadline over, images that would wait fail instead; after a cancel they are dropped.
What a seller reports as its charge outranks the price, and a reported charge means *bought*, whatever the fault. If an
order brought some of its images, its cost is split over all that were made: the delivered ones' share is captured, the
rest is an orphan. A team never pays more than was set aside for the images that it gets: what a seller bills beyond
that is booked as `excess`, ours to pay.

News of a closed attempt changes the books only, by a further entry with the amount reversed: `suspected` becomes
`orphan` when the pictures turn up after all, and nothing when the seller says that the order failed. All entries belong
to the day and month (UTC) of the job's acceptance.

## What a rescuer does

Whoever takes a job over knows what is saved of it and nothing else. That is enough:

{actions}
How long an order is waited for:

- with a ticket, until its offer's patience is over;
- with its answer lost, {RECONCILE_TIMEOUT_SECONDS:.0f} s from then on; longer, to the end of the offer's patience, if its
  seller called back or may be sent the same order again;
- with its pictures made, as long as sellers keep them: {IMAGE_TTL_SECONDS / 3600:.0f} h.

A ticket is asked about every {POLL_INTERVAL_SECONDS:.0f} s, a lost order looked for every {SEARCH_INTERVAL_SECONDS:.0f} s. A synchronous
order that a rescuer finds opened has no trace, and its answer is known at most to the owner before. That one may live
and only have stood still, so what it says within one lease still counts; then the order is given up, as `lost`.

A job is *confirmed* once an attempt is opened, its caller was answered 202, or a caller asks for it again. One that is
not belongs to a request that may have been answered 503: it is withdrawn {CONFIRMATION_TIMEOUT_SECONDS:.0f} s after its creation,
and its Idempotency-Key may order again.

## What becomes of a job that kills its workers

An owner that dies within a beat may have died of any job that it had just claimed. So a death counts against all of
them, and after {MAX_EARLY_CRASHES} in a row each is tried out alone, and beaten at once if its owner lives. One that is
still deadly is tried again ever later (its lease doubles with each death, to {MAX_LEASE_SECONDS / 3600:.0f} h), and in the
end it is abandoned: nothing more is bought for it. What was ordered is asked about until its time is over, and is
delivered.
"""


def render_diagram(transitions: TransitionTable) -> str:
    """What nothing leads out of is an end."""
    sources = {old for old, _ in transitions}
    ends = dict.fromkeys(new for _, new in transitions if new not in sources)
    arrows = [f"{old or '[*]'} --> {new}: {_check_label(label)}" for (old, new), label in transitions.items()]
    lines = ["stateDiagram-v2", *arrows, *(f"{end} --> [*]" for end in ends)]
    return "```mermaid\n" + "\n    ".join(lines) + "\n```\n"


def _check_label(label: str) -> str:
    if set(label) & set(":;#"):
        raise ValueError(f"mermaid would cut this label: {label}")
    return label


def build_booking_rows() -> Iterator[Row]:
    """Faults with the same consequences share a row."""
    kinds_by_consequences: dict[tuple[str, ...], list[FaultKind]] = {}
    for kind in FaultKind:
        kinds_by_consequences.setdefault(_describe_consequences(VERDICTS[kind]), []).append(kind)
    for consequences, kinds in kinds_by_consequences.items():
        yield ", ".join(f"`{kind}`" for kind in kinds), *consequences


def _describe_consequences(verdict: Verdict) -> tuple[str, ...]:
    line = LEDGER_LINE_BY_CHARGE[verdict.charge_status]
    states = (part_state_after(verdict.consequence, reorder) for reorder in (False, True))
    return verdict.charge_status, f"`{line}`" if line else "–", *(f"`{state}`" for state in states)


def build_action_rows() -> Iterator[Row]:
    for kind in _iterate_action_types(JobAction):
        yield f"`{kind.__name__}`", ACTION_CONDITIONS[kind], " ".join((kind.__doc__ or "").split())


def _iterate_action_types(base: type[JobAction]) -> Iterator[type[JobAction]]:
    """Those that are really given out."""
    for kind in base.__subclasses__():
        if kind is not AttemptAction:
            yield kind
        yield from _iterate_action_types(kind)


def _join_alternatives(alternatives: list[str]) -> str:
    return f"{', '.join(alternatives[:-1])} or {alternatives[-1]}"
