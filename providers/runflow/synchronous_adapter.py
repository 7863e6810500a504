"""Adapter for Runflow's synchronous API: one request, the images in its response.

Only generated model pages document it, and public clients do not use it. Assumptions: docs/quirks/runflow.md.
https://www.runflow.io/api/models/openai/gpt-image-2/llms.txt
"""

from datetime import date

from providers import parsing
from providers.adapter import Adapter, Answer, Call, Endpoint
from providers.call_builders import build_json_call
from providers.faults import FaultKind
from providers.order_status import Progress
from providers.orders import Order, check_supported
from providers.parsing import ParseError, make_submit_reader
from providers.runflow import shared_wire_format
from providers.runflow.assets import INPUT_TRANSPORTS

# The flat body has no fields for a callback or a reference.
CAPABILITIES = shared_wire_format.build_capabilities()


def to_order(order: Order) -> Call:
    check_supported(order, CAPABILITIES)
    return build_json_call(
        "POST",
        f"/v1/run/{shared_wire_format.to_model_path(order)}",
        shared_wire_format.to_input(order),
        idempotency_key=order.reference,
    )


def from_order(answer: Answer) -> Progress:
    """Parses images from `images` or `outputs`. If the answer is a run instead, returns the status of the run."""
    body = parsing.parse_json_object(answer.body)
    images = shared_wire_format.parse_images(body)
    if not any(images):
        if "status_code" in body or "status" in body:
            return shared_wire_format.from_run(body, is_new=True)
        images = images or shared_wire_format.parse_images(body.get("output"))
    if not any(name in body for name in ("images", "outputs", "output")):
        raise ParseError(FaultKind.UNREADABLE, message="the answer has neither images nor outputs nor a run")
    return parsing.status_from_images(images, (body.get("cost"),), id=parsing.parse_order_id(body.get("id")))


ADAPTER = Adapter(
    name="runflow_run",
    docs_url="https://www.runflow.io/api/models/openai/gpt-image-2/llms.txt",
    checked_on=date(2026, 11, 21),
    capabilities=CAPABILITIES,
    parse_error=shared_wire_format.parse_error,
    submit=Endpoint(build_call=to_order, read_answer=make_submit_reader(from_order, shared_wire_format.parse_error)),
    poll=shared_wire_format.POLL,
    check=shared_wire_format.CHECK,
    list_charges=shared_wire_format.LIST_CHARGES,
    input_transports=INPUT_TRANSPORTS,
    has_idempotency_key=True,
    is_synchronous=True,
)
