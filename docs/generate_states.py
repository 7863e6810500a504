"""What `docs/states.md` shows of `gateway/jobs`: its moves as diagrams, its bookings and its recovery as rows."""

from collections.abc import Iterator

from gateway.jobs.job import CONFIRM_SECONDS, State
from gateway.jobs.recovery import (
    PICTURES_LAST_SECONDS,
    POLL_SECONDS,
    RECONCILE_SECONDS,
    RESCUES_WITHOUT_PROGRESS,
    SEARCH_SECONDS,
    Abandon,
    AwaitCallback,
    AwaitCaller,
    AwaitFormer,
    Buy,
    Expire,
    Fetch,
    ForAttempt,
    GiveUp,
    LosePictures,
    LoseTrack,
    Poll,
    Resend,
    Search,
    Todo,
    Withdraw,
)
from gateway.jobs.tables import ATTEMPT_MOVES, BOOKED_AS, JOB_MOVES, PART_MOVES, Moves, part_after
from gateway.store.base import EARLY_DEATHS, LONGEST_LEASE
from providers.faults import VERDICTS, FaultKind, Verdict

Row = tuple[str, ...]
BOOKING_HEAD: Row = ("The attempt ended with", "Bought?", "Booked as", "Its images", "with `on_unknown: reorder`")
TODO_HEAD: Row = ("To do", "When", "What")

_LOST = "the answer to the order is lost"
WHEN: dict[type[Todo], str] = {
    Buy: "images are waiting",
    Poll: "the ticket is known, and its seller can be asked",
    Fetch: "the pictures are made, and their links are all that leads to them",
    LoseTrack: "an order was opened, and nobody is left who waits for its answer",
    Resend: f"{_LOST}; its seller is trusted with idempotency keys",
    Search: f"{_LOST}; its seller lists orders by our reference",
    AwaitCallback: f"{_LOST}; its seller only calls back",
    GiveUp: "an order's time is over, or there is no way to trace it",
    AwaitFormer: "instead of giving up for want of any trace, for one lease after the job was taken over",
    LosePictures: "pictures came with an answer, and are neither kept nor to be asked for",
    AwaitCaller: "nothing was ordered, and the job's client may have got an error instead of the job",
    Withdraw: "the same, and the caller has not asked again in time",
    Expire: "the job's deadline is over; before anything else",
    Abandon: f"{RESCUES_WITHOUT_PROGRESS - 1} owners in a row crashed without progress",
}


def states_body(bookings: str, todos: str) -> str:
    return f"""
# States

A **job** is what a team asked for. Its images are bought in **parts**: as many at once as the seller takes. Each try to
buy a part is an **attempt**, one order at one seller. An image that one attempt did not bring is tried again elsewhere,
as part of another. The arrows are all there are (`gateway/jobs/tables.py`); tests check each step against them.

## Job

{diagram(JOB_MOVES)}
## Part

{diagram(PART_MOVES)}
## Attempt

{diagram(ATTEMPT_MOVES)}
## Terminal is not settled

- **Terminal** is for the team: {_either([f"`{state}`" for state in State if state.is_terminal])}.
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

{todos}
How long an order is waited for:

- with a ticket, until its offer's patience is over;
- with its answer lost, {RECONCILE_SECONDS:.0f} s from then on; longer, to the end of the offer's patience, if its
  seller called back or may be sent the same order again;
- with its pictures made, as long as sellers keep them: {PICTURES_LAST_SECONDS / 3600:.0f} h.

A ticket is asked about every {POLL_SECONDS:.0f} s, a lost order looked for every {SEARCH_SECONDS:.0f} s. A synchronous
order that a rescuer finds opened has no trace, and its answer is known at most to the owner before. That one may live
and only have stood still, so what it says within one lease still counts; then the order is given up, as `lost`.

A job is *confirmed* once an attempt is opened, its caller was answered 202, or a caller asks for it again. One that is
not belongs to a request that may have been answered 503: it is withdrawn {CONFIRM_SECONDS:.0f} s after its creation,
and its Idempotency-Key may order again.

## What becomes of a job that kills its workers

An owner that dies within a beat may have died of any job that it had just claimed. So a death counts against all of
them, and after {EARLY_DEATHS} in a row each is tried out alone, and beaten at once if its owner lives. One that is
still deadly is tried again ever later (its lease doubles with each death, to {LONGEST_LEASE / 3600:.0f} h), and in the
end it is abandoned: nothing more is bought for it. What was ordered is asked about until its time is over, and is
delivered.
"""


def diagram(moves: Moves) -> str:
    """What nothing leads out of is an end."""
    lasting = {old for old, _ in moves}
    ends = dict.fromkeys(new for _, new in moves if new not in lasting)
    arrows = [f"{old or '[*]'} --> {new}: {_label(why)}" for (old, new), why in moves.items()]
    lines = ["stateDiagram-v2", *arrows, *(f"{end} --> [*]" for end in ends)]
    return "```mermaid\n" + "\n    ".join(lines) + "\n```\n"


def _label(why: str) -> str:
    if set(why) & set(":;#"):
        raise ValueError(f"mermaid would cut this label: {why}")
    return why


def booking_rows() -> Iterator[Row]:
    """Faults with the same consequences share a row."""
    alike: dict[tuple[str, ...], list[FaultKind]] = {}
    for kind in FaultKind:
        alike.setdefault(_consequences(VERDICTS[kind]), []).append(kind)
    for consequences, kinds in alike.items():
        yield ", ".join(f"`{kind}`" for kind in kinds), *consequences


def _consequences(verdict: Verdict) -> tuple[str, ...]:
    line = BOOKED_AS[verdict.bought]
    become = (part_after(verdict.then, reorder) for reorder in (False, True))
    return verdict.bought, f"`{line}`" if line else "–", *(f"`{state}`" for state in become)


def todo_rows() -> Iterator[Row]:
    for kind in _kinds_of(Todo):
        yield f"`{kind.__name__}`", WHEN[kind], " ".join((kind.__doc__ or "").split())


def _kinds_of(base: type[Todo]) -> Iterator[type[Todo]]:
    """Those that are really given out."""
    for kind in base.__subclasses__():
        if kind is not ForAttempt:
            yield kind
        yield from _kinds_of(kind)


def _either(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
