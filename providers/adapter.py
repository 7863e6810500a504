"""The contract between the gateway and a provider's dialect: plain values in, plain values out, no I/O anywhere.

A dialect turns an Order into a Call, and an Answer into a Progress. Whoever performs the Call makes the Answer.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Generic, TypeVar

from msgspec import Struct

from providers.faults import Fault
from providers.order_status import NoAnswer, Progress
from providers.orders import Capabilities, ImageBytes, ImageUrl, Order, OrderReference, Ticket

SubjectT = TypeVar("SubjectT")
ResultT = TypeVar("ResultT")


class FormPart(Struct, frozen=True):
    """One part of a multipart form: a file if it has a name, else a field."""

    field: str
    data: bytes
    filename: str | None = None
    media_type: str | None = None


class Call(Struct, frozen=True, kw_only=True):
    """A request to be made. `location` is a path below the account's base URL; if `is_presigned`, a whole URL
    that carries its own permission and must be given no credentials of ours."""

    method: str
    location: str
    headers: Mapping[str, str] = {}
    body: bytes | tuple[FormPart, ...] = b""
    is_presigned: bool = False


class Answer(Struct, frozen=True):
    """What came back: header names in lower case, the body whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class Endpoint(Struct, Generic[SubjectT, ResultT], frozen=True):
    """One exchange, described: what to send, and what the answer means. `read` takes any bytes and never raises."""

    build_call: Callable[[SubjectT], Call]
    read_answer: Callable[[Answer], ResultT]


class UploadGrant(Struct, frozen=True):
    """A place to upload to."""

    upload_id: str
    url: str
    headers: Mapping[str, str]


class UploadDone(Struct, frozen=True):
    """The bytes have arrived."""


class UploadRequest(Struct, frozen=True):
    image: ImageBytes
    grant: UploadGrant


class Multipart(Struct, frozen=True, tag=True):
    """Bytes travel inside the order."""


class DataUri(Struct, frozen=True, tag=True):
    """Bytes travel inside the order as a data URI, up to this size."""

    max_bytes: int


class Upload(Struct, frozen=True, tag=True):
    """Bytes go to the seller's store first, which costs nothing and may be repeated; its link travels in the order."""

    prepare: Endpoint[ImageBytes, UploadGrant | NoAnswer]
    put: Endpoint[UploadRequest, UploadDone | NoAnswer]
    confirm: Endpoint[UploadGrant, ImageUrl | NoAnswer]
    max_bytes: int
    ttl_seconds: int


class ByUrl(Struct, frozen=True, tag=True):
    """A public address travels in the order and the seller fetches from it."""


InputTransport = Multipart | DataUri | Upload | ByUrl


class CallbackSpec(Struct, frozen=True):
    """How to tell a genuine callback, and which order it speaks of. It is only a hint: what counts is asking.

    `id_header`: the signed header, in lower case, by which the seller tells one callback from another.
    """

    verify: Callable[[Mapping[str, str], bytes, Sequence[str], float], bool]
    parse_order_id: Callable[[bytes], str | None]
    id_header: str | None = None


class Adapter(Struct, frozen=True, kw_only=True):
    """A seller's wire dialect: a record of pure functions. `docs_url` and `checked_on`: what it was written from, and when."""

    name: str
    docs_url: str
    checked_on: date
    capabilities: Capabilities
    build_auth_headers: Callable[[str], Mapping[str, str]]
    parse_error: Callable[[Answer], Fault]
    submit: Endpoint[Order, Progress]
    poll: Endpoint[Ticket, Progress] | None = None
    search: Endpoint[OrderReference, Progress] | None = None
    callback: CallbackSpec | None = None
    input_transports: tuple[InputTransport, ...] = ()
    has_idempotency_key: bool = False
    is_synchronous: bool = False
