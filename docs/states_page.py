"""Generates `docs/states.md` from `gateway/jobs`: transitions as diagrams, bookings and actions as tables."""

from collections.abc import Iterator

from gateway.jobs import next_actions
from gateway.jobs.job import JobState
from gateway.jobs.transition_tables import (
    ATTEMPT_TRANSITIONS,
    JOB_TRANSITIONS,
    LEDGER_LINE_BY_CHARGE,
    PART_TRANSITIONS,
    TransitionTable,
    part_state_after,
)
from gateway.store.base import MAX_EARLY_CRASHES, MAX_LEASE_SECONDS
from gateway.timeouts_and_intervals import JobTiming
from providers.faults import VERDICTS, FaultKind, Verdict

Row = tuple[str, ...]
TIMING = JobTiming()
BOOKING_HEAD: Row = ("Fault of the attempt", "Charged?", "Booked as", "Its images become", "With `on_unknown: reorder`")
ACTIONS_HEAD: Row = ("Action", "Condition", "Meaning")

_RESPONSE_LOST = "the response to the order is lost"
ACTION_CONDITIONS: dict[type[next_actions.JobAction], str] = {
    next_actions.SubmitOrder: "images are waiting",
    next_actions.PollOrder: "the order has a ticket, and its seller can be polled",
    next_actions.FetchImages: "the images are finished, and only their URLs lead to them",
    next_actions.MarkResponseLost: "an attempt was started, and no task waits for its response",
    next_actions.ResendOrder: f"{_RESPONSE_LOST}; its seller is trusted to honour idempotency keys",
    next_actions.SearchOrder: f"{_RESPONSE_LOST}; its seller lists orders by reference",
    next_actions.AwaitCallback: f"{_RESPONSE_LOST}; its seller can only send a callback",
    next_actions.AbandonAttempt: "an order has timed out, or cannot be found in any way",
    next_actions.AwaitPreviousWorker: "the order cannot be found in any way; for one lease after the job was reclaimed",
    next_actions.AbandonLostImages: "images came with a response, and are neither stored nor available by polling",
    next_actions.AwaitClient: "nothing was ordered, and the job's client may have got an error instead of the job",
    next_actions.WithdrawJob: "the same, and the client has not repeated its request in time",
    next_actions.ExpireJob: "the job's deadline has passed; takes precedence",
    next_actions.AbandonJob: (
        f"{next_actions.MAX_RECLAIMS_WITHOUT_PROGRESS - 1} workers in a row crashed without progress"
    ),
}


def render_states_body(bookings: str, actions: str) -> str:
    """Renders the sections of the page, with the tables of bookings and actions."""
    sections = (
        _render_transitions(),
        _render_ends(),
        _render_charges(bookings),
        _render_reclaims(actions),
        _render_crashes(),
    )
    return "\n".join(sections)


def _render_transitions() -> str:
    return f"""
# States

A **job** is one request of a team. Its images are ordered in **parts**, each with as many images as one order of the
seller may have. An **attempt** is one order for one part at one seller. An image that an attempt does not deliver
becomes part of a later attempt at another seller. The diagrams show all transitions
(`gateway/jobs/transition_tables.py`); tests check every step of a job against them.

## Job

{render_diagram(JOB_TRANSITIONS)}
## Part

{render_diagram(PART_TRANSITIONS)}
## Attempt

{render_diagram(ATTEMPT_TRANSITIONS)}"""


def _render_ends() -> str:
    return f"""\
## Terminal and settled

- **Terminal** concerns the team: {_join_alternatives([f"`{state}`" for state in JobState if state.is_terminal])}.
  The job waits for no more images, the rest of the hold is released, and the webhook is sent. Later events do not
  change the result.
- **Settled** concerns the money: the job is terminal, and every attempt is closed. Until then the job stays in the
  index of jobs with due actions.

A job is terminal but not settled if an order is still running when the deadline ends the job. The order is polled until
its cost is known. If its images arrive, their cost is an orphan: the operator pays it, never the team. Once a seller
has finished the images, the deadline no longer ends the job, only the expiry of the images does.

A job that ends with some of its images is `completed`: the team pays for these, and `warnings` says how many there are.
A cancelled job is `cancelled`, and the team pays for the images delivered so far.
"""


def _render_charges(bookings: str) -> str:
    return f"""\
## Charges and their bookings

Delivered images are booked as `capture`, the only line that the team pays. Other costs of an attempt:

{bookings}
If no attempts are left, or the deadline has passed, images that would wait fail instead; after a cancellation they are
dropped. A cost that the seller reports overrides the price, and means *charged*, whatever the fault. If an order
delivers some of its images, its cost is divided among all generated ones: the share of the delivered images is
captured, the rest is an orphan. A team never pays more than the hold of the images that it receives: the operator
pays a higher cost, which is booked as `excess`.

Events of a closed attempt change bookings only, by another entry that reverses the amount: `suspected` becomes `orphan`
if the images are found later, and is removed if the seller reports that the order failed. All entries belong to the day
and month (UTC) of the job's creation.
"""


def _render_reclaims(actions: str) -> str:
    return f"""\
## Reclaimed jobs

A worker that reclaims a job uses only what is saved of it:

{actions}
An order is awaited:

- with a ticket, until the timeout of its offer;
- without a response, for {TIMING.reconcile_timeout_seconds:.0f} s; until the timeout of its offer if its seller
  has called back or accepts the same order again;
- with finished images, as long as sellers keep them: {JobTiming().image_ttl_seconds / 3600:.0f} h.

A ticket is polled every {TIMING.poll_interval_seconds:.0f} s, and an order without one is searched every
{TIMING.search_interval_seconds:.0f} s. If a worker reclaims a job with an open synchronous order, there is no way
to find that order; only the previous worker may have its response. That worker may still run after a pause, so its
updates are accepted for one lease; then the attempt is abandoned as `response_lost`.

A job is *confirmed* once an attempt is started, its client received a 202, or a client requests it again. The client of
an unconfirmed job may have received a 503: the job is withdrawn {TIMING.confirmation_timeout_seconds:.0f} s after its
creation, and its Idempotency-Key may order again.
"""


def _render_crashes() -> str:
    return f"""\
## Jobs that crash their workers

A worker that crashes within one renewal of its leases may have crashed because of any job that it had just claimed. So
the crash counts against all of them. After {MAX_EARLY_CRASHES} crashes in a row, each of these jobs is claimed alone,
and its lease is renewed at once. A job that crashes its worker again is claimed later each time (its lease doubles, up
to {MAX_LEASE_SECONDS / 3600:.0f} h), and is finally abandoned: nothing more is ordered for it. Existing orders are
polled until their timeout, and their images are delivered.
"""


def render_diagram(transitions: TransitionTable) -> str:
    """Renders a Mermaid diagram; states without outgoing transitions are final."""
    sources = {old for old, _ in transitions}
    ends = dict.fromkeys(new for _, new in transitions if new not in sources)
    arrows = [f"{old or '[*]'} --> {new}: {_check_label(label)}" for (old, new), label in transitions.items()]
    lines = ["stateDiagram-v2", *arrows, *(f"{end} --> [*]" for end in ends)]
    return "```mermaid\n" + "\n    ".join(lines) + "\n```\n"


def _check_label(label: str) -> str:
    if set(label) & set(":;#"):
        raise ValueError(f"Invalid label {label!r}: Mermaid would cut it at : ; or #")
    return label


def build_booking_rows() -> Iterator[Row]:
    """Yields one row for each set of consequences, with all its faults."""
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
    for kind in _iterate_action_types(next_actions.JobAction):
        yield f"`{kind.__name__}`", ACTION_CONDITIONS[kind], " ".join((kind.__doc__ or "").split())


def _iterate_action_types(base: type[next_actions.JobAction]) -> Iterator[type[next_actions.JobAction]]:
    """Yields the concrete action types."""
    for kind in base.__subclasses__():
        if kind not in (next_actions.AttemptAction, next_actions.OngoingAction):
            yield kind
        yield from _iterate_action_types(kind)


def _join_alternatives(alternatives: list[str]) -> str:
    return f"{', '.join(alternatives[:-1])} or {alternatives[-1]}"
