"""A fault becomes a redacted response, also by a worker that reclaimed the job and has no prompt in memory."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.value_types import Secret
from gateway.engine.job_context import JobContext
from gateway.engine.job_documents import OrderDocuments, SavedRequest, encode_document, encode_order_documents
from gateway.engine.seller_response_builder import describe_fault, describe_success
from gateway.jobs.job import SellerResponse
from gateway.routing.routing_request import RoutingRequest
from gateway.store.base import StoreUnavailable
from providers.faults import Fault, FaultKind
from providers.image_sizes import TargetSize
from providers.order_status import Ready, StatusNote
from providers.orders import Format, Operation

PROMPT = "a lighthouse at dawn"
DOCUMENTS = OrderDocuments(
    SavedRequest(
        routing=RoutingRequest(
            operation=Operation.GENERATE,
            model="gpt-image-2",
            n=1,
            target=TargetSize(1024, 1024, "1:1", "1k"),
            quality="low",
            output_format=Format.PNG,
        ),
        prompt=PROMPT,
    ),
    terms=(),
)
ACCOUNT: Any = SimpleNamespace(api_key=Secret("quartz-vessel-17"), callback_secrets=(Secret("amber-window-42"),))
FAULT = Fault(
    kind=FaultKind.INVALID_ORDER,
    status=422,
    code="VALIDATION_ERROR",
    message=f"cannot draw {PROMPT} with quartz-vessel-17 and amber-window-42",
)
REDACTED_FAULT = SellerResponse(
    status=422, code="VALIDATION_ERROR", message="cannot draw […] with (hidden) and (hidden)"
)


def make_job_context(
    documents: dict[str, bytes] | Exception, carried: OrderDocuments | None = None
) -> tuple[JobContext, list[str]]:
    """Returns a job context whose store has these documents, and the list of its loads."""
    loads: list[str] = []

    async def load_documents(job_id: str, *names: str) -> dict[str, bytes]:
        loads.append(job_id)
        if isinstance(documents, Exception):
            raise documents
        return {name: documents[name] for name in names if name in documents}

    engine_context: Any = SimpleNamespace(store=SimpleNamespace(load_documents=load_documents))
    job: Any = SimpleNamespace(id="job_1")
    job_context = JobContext(engine_context, job, 1)
    job_context.order_documents = carried
    return job_context, loads


def describe(job_context: JobContext, fault: Fault = FAULT) -> SellerResponse:
    return asyncio.run(describe_fault(job_context, fault, ACCOUNT))


def test_worker_that_ordered_redacts_without_loading_the_request() -> None:
    job_context, loads = make_job_context({}, DOCUMENTS)
    assert describe(job_context) == REDACTED_FAULT
    assert loads == []


def test_worker_that_reclaimed_the_job_loads_the_prompt_once() -> None:
    job_context, loads = make_job_context(encode_order_documents(DOCUMENTS))
    assert [describe(job_context), describe(job_context)] == [REDACTED_FAULT] * 2
    assert len(loads) == 1


def test_prompt_that_an_earlier_version_saved_in_the_request_is_found() -> None:
    documents = encode_order_documents(DOCUMENTS)
    del documents["prompt"]
    job_context, _ = make_job_context(documents | {"request": encode_document(DOCUMENTS.request)})
    assert describe(job_context) == REDACTED_FAULT


@pytest.mark.parametrize("documents", [{}, StoreUnavailable("down")], ids=["request deleted", "store unavailable"])
def test_text_is_omitted_if_the_prompt_is_unknown(documents: dict[str, bytes] | Exception) -> None:
    job_context, _ = make_job_context(documents)
    assert describe(job_context) == SellerResponse(status=422)


def test_code_that_is_not_an_identifier_is_omitted() -> None:
    fault = Fault(kind=FaultKind.ORDER_FAILED, code="some sentence", message="why")
    job_context, _ = make_job_context({}, DOCUMENTS)
    assert describe(job_context, fault) == SellerResponse(message="why")


def test_refusal_of_content_keeps_its_code() -> None:
    fault = Fault(kind=FaultKind.CONTENT_REFUSED, status=400, code="moderation_blocked", message="dawn is forbidden")
    expected = SellerResponse(status=400, code="moderation_blocked", message="[…] is forbidden")
    job_context, _ = make_job_context({}, DOCUMENTS)
    assert describe(job_context, fault) == expected


def test_notes_of_a_success_are_kept() -> None:
    noted = Ready(images=(), notes=(StatusNote.COST_UNREADABLE,))
    assert describe_success(noted) == SellerResponse(notes=("cost_unreadable",))
    assert describe_success(Ready(images=())) is None
