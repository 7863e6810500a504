"""Sends an adapter's calls over real sockets, in the simplest way, without the gateway's engine."""

import time
from dataclasses import dataclass
from typing import Any

import httpx

from providers.adapter import (
    Adapter,
    Answer,
    Call,
    DataUri,
    Endpoint,
    Multipart,
    Upload,
    UploadDone,
    UploadGrant,
    UploadRequest,
)
from providers.call_builders import encode_data_uri
from providers.faults import Fault, FaultKind
from providers.order_status import Accepted, InProgress, NoAnswer, Progress, Ready, SearchResult
from providers.orders import ImageBytes, ImageSource, ImageUrl, Operation, Order, OrderReference, Ticket
from tests.contract import fixture_cases
from tests.harness.sandbox_runner import RunningSandbox

MAX_UNANSWERED_POLLS = 3


@dataclass
class AdapterDriver:
    """One adapter and its account in the sandbox."""

    adapter: Adapter
    sandbox: RunningSandbox
    timeout: float = 10.0
    order_timeout: float = 60.0
    api_key: str | None = None

    def send(self, call: Call) -> Answer | NoAnswer:
        """Sends a call; a failed one returns NoAnswer."""
        account = fixture_cases.get_sandbox_account(self.adapter)
        url = call.location if call.is_presigned else f"{self.sandbox.url}{account['path']}{call.location}"
        secret = account["key"] if self.api_key is None else self.api_key
        headers = dict(call.headers) | ({} if call.is_presigned else dict(self.adapter.build_auth_headers(secret)))
        try:
            with httpx.Client(trust_env=False, timeout=self.timeout) as client:
                answer = client.request(call.method, url, headers=headers, **_build_body_args(call))
        except httpx.ConnectError:
            return NoAnswer(fault=Fault(kind=FaultKind.NOT_SENT))
        except httpx.TransportError as error:
            return NoAnswer(fault=Fault(kind=FaultKind.RESPONSE_LOST, message=type(error).__name__))
        lower = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status_code, lower, answer.content)

    def call_endpoint(self, endpoint: Endpoint[Any, Any], subject: object) -> Any:
        answer = self.send(endpoint.build_call(subject))
        return endpoint.read_answer(answer) if isinstance(answer, Answer) else answer

    def submit(self, order: Order) -> Progress:
        status: Progress = self.call_endpoint(self.adapter.submit, order)
        return status

    def submit_and_poll(self, order: Order) -> Progress:
        """Submits an order and poll it until it has finished."""
        status = self.submit(order)
        if not isinstance(status, Accepted) or status.id is None:
            return status
        return self.poll_until_final(Ticket(status.id, order.operation, order.model))

    def poll_until_final(self, ticket: Ticket) -> Progress:
        """Polls until the status is final, or returns the last one at the timeout, as the gateway gives up an order."""
        assert self.adapter.poll is not None
        deadline = time.monotonic() + self.order_timeout
        unanswered_polls = 0
        status: Progress = InProgress(status="")
        while time.monotonic() < deadline:
            status = self.call_endpoint(self.adapter.poll, ticket)
            unanswered_polls = unanswered_polls + 1 if isinstance(status, NoAnswer) else 0
            if not isinstance(status, InProgress | NoAnswer) or unanswered_polls > MAX_UNANSWERED_POLLS:
                return status
            time.sleep(0.02)
        return status

    def search_orders(self, reference: str, search_count: int) -> list[Ticket]:
        assert self.adapter.search is not None
        result = self.call_endpoint(self.adapter.search, OrderReference(reference, search_count))
        assert isinstance(result, SearchResult)
        matching = [order for order in result.orders if order.reference == reference]
        return [Ticket(str(order.id), Operation.GENERATE, "") for order in matching]

    def upload_input(self, image: ImageBytes, transport_class: type[Any]) -> ImageSource:
        """Uploads an input image with one of the adapter's transports."""
        transport = next(
            candidate for candidate in self.adapter.input_transports if isinstance(candidate, transport_class)
        )
        if isinstance(transport, Multipart):
            return image
        if isinstance(transport, DataUri):
            return ImageUrl(encode_data_uri(image))
        assert isinstance(transport, Upload)
        grant = self.call_endpoint(transport.prepare, image)
        assert isinstance(grant, UploadGrant), grant
        assert isinstance(self.call_endpoint(transport.put, UploadRequest(image, grant)), UploadDone)
        image_url = self.call_endpoint(transport.confirm, grant)
        assert isinstance(image_url, ImageUrl), image_url
        return image_url

    def fetch_images(self, ready: Progress) -> list[bytes]:
        """Returns the bytes of the images; URLs are fetched without credentials."""
        assert isinstance(ready, Ready), ready
        return [image.data if isinstance(image, ImageBytes) else self._fetch_image(image) for image in ready.images]

    def _fetch_image(self, image_url: ImageUrl) -> bytes:
        return httpx.get(image_url.url, trust_env=False).raise_for_status().content


def _build_body_args(call: Call) -> dict[str, Any]:
    if isinstance(call.body, bytes):
        return {"content": call.body}
    # httpx keeps the order of fields only if they are given as files without a name.
    return {"files": [(part.field, (part.filename, part.data, part.media_type)) for part in call.body]}
