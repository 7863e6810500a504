"""Runflow's synchronous dialect: a flat order, and the pictures in its answer.

It stands in generated model pages only and no public client uses it; docs/quirks/runflow.md says what is assumed.
https://www.runflow.io/api/models/openai/gpt-image-2/llms.txt
"""

from datetime import date

from providers import reading, runflow
from providers.faults import FaultKind
from providers.orders import Order, require_words
from providers.progress import Progress
from providers.reading import Unclear, ordering
from providers.runflow_assets import INPUTS
from providers.spec import Adapter, Answer, Call, Step
from providers.writing import bearer, json_call

# A flat body has no room for a callback, metadata or our reference.
SPEAKS = runflow.speaks()


def to_order(order: Order) -> Call:
    require_words(order, SPEAKS)
    return json_call(
        "POST", f"/v1/run/{runflow.to_model_path(order)}", runflow.to_input(order), idempotency_key=order.reference
    )


def from_order(answer: Answer) -> Progress:
    """Pictures in `images` or `outputs`, whatever stands beside them. Should there be a run instead, it is followed."""
    body = reading.document(answer.body)
    found = runflow.pictures_of(body)
    if not any(found):
        if "status_code" in body or "status" in body:
            return runflow.from_run(body, just_ordered=True)
        found = found or runflow.pictures_of(body.get("output"))
    if not any(name in body for name in ("images", "outputs", "output")):
        raise Unclear(FaultKind.UNREADABLE, message="neither images nor outputs nor a run in the answer")
    return reading.delivered(found, (body.get("cost"),), id=reading.order_id(body.get("id")))


ADAPTER = Adapter(
    name="runflow_run",
    docs="https://www.runflow.io/api/models/openai/gpt-image-2/llms.txt",
    checked=date(2026, 11, 21),
    speaks=SPEAKS,
    authorize=bearer,
    error=runflow.error,
    submit=Step(ask=to_order, read=ordering(from_order, runflow.error)),
    poll=runflow.POLL,
    inputs=INPUTS,
    replay_key=True,
    holds_connection=True,
)
