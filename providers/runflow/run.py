"""Runflow's synchronous dialect: a flat order, and the pictures in its answer.

It stands in generated model pages only and no public client uses it; docs/quirks/runflow.md says what is assumed.
https://www.runflow.io/api/models/openai/gpt-image-2/llms.txt
"""

from datetime import date

from providers import parsing
from providers.adapter import Adapter, Answer, Call, Endpoint
from providers.faults import FaultKind
from providers.order_status import Progress
from providers.orders import Order, check_supported
from providers.parsing import ParseError, make_submit_reader
from providers.request_helpers import build_bearer_headers, build_json_call
from providers.runflow import common
from providers.runflow.assets import INPUT_TRANSPORTS

# A flat body has no room for a callback, metadata or our reference.
CAPABILITIES = common.build_capabilities()


def to_order(order: Order) -> Call:
    check_supported(order, CAPABILITIES)
    return build_json_call(
        "POST", f"/v1/run/{common.to_model_path(order)}", common.to_input(order), idempotency_key=order.reference
    )


def from_order(answer: Answer) -> Progress:
    """Pictures in `images` or `outputs`, whatever stands beside them. Should there be a run instead, it is followed."""
    body = parsing.parse_json_object(answer.body)
    images = common.parse_images(body)
    if not any(images):
        if "status_code" in body or "status" in body:
            return common.from_run(body, is_new=True)
        images = images or common.parse_images(body.get("output"))
    if not any(name in body for name in ("images", "outputs", "output")):
        raise ParseError(FaultKind.UNREADABLE, message="neither images nor outputs nor a run in the answer")
    return parsing.status_from_images(images, (body.get("cost"),), id=parsing.parse_order_id(body.get("id")))


ADAPTER = Adapter(
    name="runflow_run",
    docs_url="https://www.runflow.io/api/models/openai/gpt-image-2/llms.txt",
    checked_on=date(2026, 11, 21),
    capabilities=CAPABILITIES,
    build_auth_headers=build_bearer_headers,
    parse_error=common.parse_error,
    submit=Endpoint(build_call=to_order, read_answer=make_submit_reader(from_order, common.parse_error)),
    poll=common.POLL,
    input_transports=INPUT_TRANSPORTS,
    has_idempotency_key=True,
    is_synchronous=True,
)
