"""The contract between the gateway and an adapter: plain values in, plain values out, no I/O.

An adapter turns an Order into a Call, and an Answer into a Progress. The seller client sends the Call.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Generic, TypeVar

from msgspec import Struct

from providers.account_status import AccountStatus
from providers.charge_list import ChargePage, ChargeQuery
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
    """A request to a seller. `location` is a path below the account's base URL.

    If `is_presigned`, `location` is a complete URL that grants access by itself: it is called without an API key.
    """

    method: str
    location: str
    headers: Mapping[str, str] = {}
    body: bytes | tuple[FormPart, ...] = b""
    is_presigned: bool = False


class Answer(Struct, frozen=True):
    """A response: header names in lower case, and the complete body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class Endpoint(Struct, Generic[SubjectT, ResultT], frozen=True):
    """One endpoint of a seller: how to build its call, and how to read its answer.

    `read_answer` accepts any bytes and never raises.
    """

    build_call: Callable[[SubjectT], Call]
    read_answer: Callable[[Answer], ResultT]


class UploadGrant(Struct, frozen=True):
    """A presigned URL for the upload of one image, with the headers that it requires."""

    upload_id: str
    url: str
    headers: Mapping[str, str]


class UploadDone(Struct, frozen=True):
    """The upload is complete."""


class UploadRequest(Struct, frozen=True):
    image: ImageBytes
    grant: UploadGrant


class Multipart(Struct, frozen=True, tag=True):
    """Sends input bytes as parts of a multipart order."""


class DataUri(Struct, frozen=True, tag=True):
    """Sends input bytes inside the order as a data URI, up to `max_bytes`."""

    max_bytes: int


class Upload(Struct, frozen=True, tag=True):
    """Uploads input bytes to the seller's storage first and sends their URL in the order.

    An upload costs nothing and may be repeated.
    """

    prepare: Endpoint[ImageBytes, UploadGrant | NoAnswer]
    put: Endpoint[UploadRequest, UploadDone | NoAnswer]
    confirm: Endpoint[UploadGrant, ImageUrl | NoAnswer]
    max_bytes: int
    ttl_seconds: int


InputTransport = Multipart | DataUri | Upload


class CallbackSpec(Struct, frozen=True):
    """How to verify a callback, and how to find the order that it names.

    A callback is only a hint: the order is polled before anything is decided. `id_header`: the signed header, in lower
    case, that identifies one callback.
    """

    verify: Callable[[Mapping[str, str], bytes, Sequence[str], float], bool]
    parse_order_id: Callable[[bytes], str | None]
    id_header: str | None = None


def build_bearer_headers(secret: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {secret}"}


class Adapter(Struct, frozen=True, kw_only=True):
    """The adapter for one wire dialect, as a record of pure functions.

    `docs_url` and `checked_on`: the documentation that the adapter implements, and when both were last compared.
    `check`: a free query that shows whether the API key is valid, with the balance if the seller has one.
    `list_charges`: a free query of what the seller charged.
    """

    name: str
    docs_url: str
    checked_on: date
    capabilities: Capabilities
    parse_error: Callable[[Answer], Fault]
    submit: Endpoint[Order, Progress]
    build_auth_headers: Callable[[str], Mapping[str, str]] = build_bearer_headers
    poll: Endpoint[Ticket, Progress] | None = None
    search: Endpoint[OrderReference, Progress] | None = None
    check: Endpoint[None, AccountStatus | NoAnswer] | None = None
    list_charges: Endpoint[ChargeQuery, ChargePage | NoAnswer] | None = None
    callback: CallbackSpec | None = None
    input_transports: tuple[InputTransport, ...] = ()
    has_idempotency_key: bool = False
    is_synchronous: bool = False
