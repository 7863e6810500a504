"""Carries a dialect's calls over real sockets, as plainly as can be: what the gateway's engine will do with care."""

import time
from dataclasses import dataclass
from typing import Any

import httpx

from providers.faults import Fault, FaultKind
from providers.orders import Inline, Link, Operation, Order, Reference, Source, Ticket
from providers.progress import Accepted, Listed, Progress, Ready, Unanswered, Working
from providers.spec import Adapter, Answer, Call, DataUri, Granted, Multipart, Step, Stored, Upload, UploadTo
from providers.writing import data_uri
from tests.contract import cases
from tests.vendors import Vendors

DEADLINE_SECONDS = 10.0
MOST_DOUBTS = 3


@dataclass
class Seller:
    """One adapter at its account."""

    adapter: Adapter
    vendors: Vendors
    timeout: float = 10.0
    key: str | None = None

    def perform(self, call: Call) -> Answer | Unanswered:
        """The exchange itself: its failure says only that we do not know."""
        account = cases.simulated(self.adapter)
        url = call.location if call.presigned else f"{self.vendors.url}{account['path']}{call.location}"
        secret = account["key"] if self.key is None else self.key
        headers = dict(call.headers) | ({} if call.presigned else dict(self.adapter.authorize(secret)))
        try:
            with httpx.Client(trust_env=False, timeout=self.timeout) as client:
                answer = client.request(call.method, url, headers=headers, **_body(call))
        except httpx.ConnectError:
            return Unanswered(fault=Fault(kind=FaultKind.NOT_SENT))
        except httpx.TransportError as error:
            return Unanswered(fault=Fault(kind=FaultKind.LOST, message=type(error).__name__))
        lower = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status_code, lower, answer.content)

    def take(self, step: Step[Any, Any], subject: object) -> Any:
        answer = self.perform(step.ask(subject))
        return step.read(answer) if isinstance(answer, Answer) else answer

    def submit(self, order: Order) -> Progress:
        progress: Progress = self.take(self.adapter.submit, order)
        return progress

    def buy(self, order: Order) -> Progress:
        """Submits and asks until there is an outcome."""
        progress = self.submit(order)
        if not isinstance(progress, Accepted) or progress.id is None:
            return progress
        return self.follow(Ticket(progress.id, order.operation, order.model))

    def follow(self, ticket: Ticket) -> Progress:
        assert self.adapter.poll is not None
        deadline = time.monotonic() + DEADLINE_SECONDS
        doubts = 0
        progress: Progress = Working(word="")
        while time.monotonic() < deadline:
            progress = self.take(self.adapter.poll, ticket)
            doubts = doubts + 1 if isinstance(progress, Unanswered) else 0
            if not isinstance(progress, Working | Unanswered) or doubts > MOST_DOUBTS:
                return progress
            time.sleep(0.02)
        return progress

    def find(self, reference: str, asked: int) -> list[Ticket]:
        assert self.adapter.find is not None
        listed = self.take(self.adapter.find, Reference(reference, asked))
        assert isinstance(listed, Listed)
        mine = [order for order in listed.orders if order.reference == reference]
        return [Ticket(str(order.id), Operation.GENERATE, "") for order in mine]

    def bring(self, image: Inline, route: type[Any]) -> Source:
        """Gets an input image there by one of the dialect's routes."""
        found = next(one for one in self.adapter.inputs if isinstance(one, route))
        if isinstance(found, Multipart):
            return image
        if isinstance(found, DataUri):
            return Link(data_uri(image))
        assert isinstance(found, Upload)
        granted = self.take(found.prepare, image)
        assert isinstance(granted, Granted), granted
        assert isinstance(self.take(found.put, UploadTo(image, granted)), Stored)
        link = self.take(found.confirm, granted)
        assert isinstance(link, Link), link
        return link

    def pictures(self, ready: Progress) -> list[bytes]:
        """The bytes of what was delivered; links are fetched without credentials."""
        assert isinstance(ready, Ready), ready
        return [picture.data if isinstance(picture, Inline) else self._fetch(picture) for picture in ready.pictures]

    def _fetch(self, link: Link) -> bytes:
        return httpx.get(link.url, trust_env=False).raise_for_status().content


def _body(call: Call) -> dict[str, Any]:
    if isinstance(call.body, bytes):
        return {"content": call.body}
    # httpx writes fields given as nameless files in the order they come.
    return {"files": [(part.field, (part.filename, part.data, part.media_type)) for part in call.body]}
