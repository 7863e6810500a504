"""Runflow's documented dialect: order a run, ask for it by id, find it by our reference, hear of it by callback.

https://docs.runflow.io/concepts/runs. Assumptions that nobody could check: docs/quirks/runflow.md.
"""

import re
from datetime import date

from providers import reading, runflow
from providers.faults import FaultKind
from providers.orders import Feature, InexpressibleError, Order, Reference, require_words
from providers.progress import Accepted, Listed, Progress
from providers.reading import Unclear, asking, ordering
from providers.runflow_assets import INPUTS
from providers.signing import runflow_signature_holds
from providers.spec import Adapter, Answer, Call, Callback, Step
from providers.writing import bearer, json_call

SPEAKS = runflow.speaks(Feature.CALLBACK, Feature.METADATA)


def to_run(order: Order) -> Call:
    require_words(order, SPEAKS)
    fields = {
        "input": runflow.to_input(order),
        "callback_url": order.callback_url,
        "metadata": dict(order.metadata) or None,
        "client_ref": order.reference,
    }
    return json_call("POST", f"/v1/models/{runflow.to_model_path(order)}/runs", fields, idempotency_key=order.reference)


def from_ordered(answer: Answer) -> Progress:
    return runflow.from_run(reading.document(answer.body), just_ordered=True)


# Two pages, two spellings of the same filter: the one that real clients send comes first, then they alternate.
_FILTERS = ("client_ref.EQ:'{}'", "client_ref:{}")


def to_search(reference: Reference) -> Call:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", reference.value):
        raise InexpressibleError("a reference to search for may hold letters, digits and ._- only")
    query = _FILTERS[reference.asked % len(_FILTERS)].format(reference.value)
    return Call(method="GET", location=f"/v1/runs?q={_quoted(query)}&limit=10")


def _quoted(query: str) -> str:
    return query.replace("'", "%27").replace(":", "%3A")


def from_search(answer: Answer) -> Progress:
    """Runs that carry a reference, to be asked for one by one: a list need not show what came of them.

    Which of them are ours is for whoever searched to see, since a filter may be ignored.
    """
    body = reading.document(answer.body)
    if not isinstance(body.get("items"), list):
        raise Unclear(FaultKind.UNREADABLE, message="no list of runs in the answer")
    return Listed(orders=tuple(found for run in body["items"] if (found := _sighting(run))))


def _sighting(run: object) -> Accepted | None:
    run_id, reference = (run.get("id"), run.get("client_ref")) if isinstance(run, dict) else (None, None)
    if (found := reading.order_id(run_id)) is None:
        return None
    return Accepted(id=found, reference=reading.text(reference))


def from_callback(body: bytes) -> str | None:
    """The run that a callback speaks of; it calls the id `run_id`."""
    try:
        return reading.order_id(reading.document(body).get("run_id"))
    except Unclear:
        return None


ADAPTER = Adapter(
    name="runflow_runs",
    docs="https://docs.runflow.io/models/openai/gpt-image-2",
    checked=date(2026, 11, 21),
    speaks=SPEAKS,
    authorize=bearer,
    error=runflow.error,
    submit=Step(ask=to_run, read=ordering(from_ordered, runflow.error)),
    poll=runflow.POLL,
    find=Step(ask=to_search, read=asking(from_search, runflow.error)),
    callback=Callback(
        verify=lambda headers, body, secrets, _now: runflow_signature_holds(headers, body, secrets),
        read=from_callback,
    ),
    inputs=INPUTS,
    replay_key=True,
)
