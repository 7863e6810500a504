"""Adapter for Runflow's runs API: submit a run, poll it by id, search it by reference, receive its callback.

https://docs.runflow.io/concepts/runs. Unverified assumptions: docs/quirks/runflow.md.
"""

import re
from datetime import date

from providers import parsing
from providers.adapter import Adapter, Answer, Call, CallbackSpec, Endpoint
from providers.call_builders import build_json_call
from providers.callback_signatures import verify_runflow_signature
from providers.faults import FaultKind
from providers.order_status import Accepted, Progress, SearchResult
from providers.orders import Feature, Order, OrderReference, UnsupportedOrder, check_supported
from providers.parsing import ParseError, make_callback_reader, make_query_reader, make_submit_reader
from providers.runflow import shared_wire_format
from providers.runflow.assets import INPUT_TRANSPORTS

CAPABILITIES = shared_wire_format.build_capabilities(Feature.CALLBACK)


def to_run(order: Order) -> Call:
    check_supported(order, CAPABILITIES)
    fields = {
        "input": shared_wire_format.to_input(order),
        "callback_url": order.callback_url,
        "client_ref": order.reference,
    }
    return build_json_call(
        "POST", f"/v1/models/{shared_wire_format.to_model_path(order)}/runs", fields, idempotency_key=order.reference
    )


def from_ordered(answer: Answer) -> Progress:
    return shared_wire_format.from_run(parsing.parse_json_object(answer.body), is_new=True)


# Two pages spell the filter differently: searches alternate, beginning with the spelling of real clients.
_SEARCH_FILTERS = ("client_ref.EQ:'{}'", "client_ref:{}")


def to_search(reference: OrderReference) -> Call:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", reference.value):
        raise UnsupportedOrder("Invalid order reference: use 1 to 255 letters, digits or ._-")
    query = _SEARCH_FILTERS[reference.search_count % len(_SEARCH_FILTERS)].format(reference.value)
    return Call(method="GET", location=f"/v1/runs?q={_quote_query(query)}&limit=10")


def _quote_query(query: str) -> str:
    return query.replace("'", "%27").replace(":", "%3A")


def from_search(answer: Answer) -> Progress:
    """Returns the runs found. Each must be polled, since a list may omit their results.

    The seller may ignore the filter: the caller compares the references.
    """
    body = parsing.parse_json_object(answer.body)
    if not isinstance(body.get("items"), list):
        raise ParseError(FaultKind.UNREADABLE, message="the answer has no list of runs")
    return SearchResult(orders=tuple(order for run in body["items"] if (order := _parse_search_entry(run))))


def _parse_search_entry(run: object) -> Accepted | None:
    run_id, reference = (run.get("id"), run.get("client_ref")) if isinstance(run, dict) else (None, None)
    if (order_id := parsing.parse_order_id(run_id)) is None:
        return None
    return Accepted(id=order_id, reference=parsing.parse_text(reference))


ADAPTER = Adapter(
    name="runflow_runs",
    docs_url="https://docs.runflow.io/models/openai/gpt-image-2",
    checked_on=date(2026, 11, 21),
    capabilities=CAPABILITIES,
    parse_error=shared_wire_format.parse_error,
    submit=Endpoint(build_call=to_run, read_answer=make_submit_reader(from_ordered, shared_wire_format.parse_error)),
    poll=shared_wire_format.POLL,
    check=shared_wire_format.CHECK,
    list_charges=shared_wire_format.LIST_CHARGES,
    search=Endpoint(build_call=to_search, read_answer=make_query_reader(from_search, shared_wire_format.parse_error)),
    callback=CallbackSpec(
        verify=lambda headers, body, secrets, _now: verify_runflow_signature(headers, body, secrets),
        parse_order_id=make_callback_reader("run_id"),
    ),
    input_transports=INPUT_TRANSPORTS,
    has_idempotency_key=True,
)
