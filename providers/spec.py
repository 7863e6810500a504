"""The contract between the gateway and a provider's dialect: plain values in, plain values out, no I/O anywhere.

A dialect turns an Order into a Call, and an Answer into a Progress. Whoever performs the Call makes the Answer.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Generic, TypeVar

from msgspec import Struct

from providers.faults import Fault
from providers.orders import Inline, Link, Order, Reference, Speaks, Ticket
from providers.progress import Progress, Unanswered

T = TypeVar("T")
P = TypeVar("P")


class FormPart(Struct, frozen=True):
    """One part of a multipart form: a file if it has a name, else a field."""

    field: str
    data: bytes
    filename: str | None = None
    media_type: str | None = None


class Call(Struct, frozen=True, kw_only=True):
    """A request to be made. `location` is a path below the account's base URL; if `presigned`, a whole URL
    that carries its own permission and must be given no credentials of ours."""

    method: str
    location: str
    headers: Mapping[str, str] = {}
    body: bytes | tuple[FormPart, ...] = b""
    presigned: bool = False


class Answer(Struct, frozen=True):
    """What came back: header names in lower case, the body whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def success(self) -> bool:
        return 200 <= self.status < 300


class Step(Struct, Generic[T, P], frozen=True):
    """One exchange, described: what to send, and what the answer means. `read` takes any bytes and never raises."""

    ask: Callable[[T], Call]
    read: Callable[[Answer], P]


class Granted(Struct, frozen=True):
    """A place to upload to."""

    handle: str
    url: str
    headers: Mapping[str, str]


class Stored(Struct, frozen=True):
    """The bytes have arrived."""


class UploadTo(Struct, frozen=True):
    image: Inline
    grant: Granted


class Multipart(Struct, frozen=True, tag=True):
    """Bytes travel inside the order."""


class DataUri(Struct, frozen=True, tag=True):
    """Bytes travel inside the order as a data URI, up to this size."""

    max_bytes: int


class Upload(Struct, frozen=True, tag=True):
    """Bytes go to the seller's store first, which costs nothing and may be repeated; its link travels in the order."""

    prepare: Step[Inline, Granted | Unanswered]
    put: Step[UploadTo, Stored | Unanswered]
    confirm: Step[Granted, Link | Unanswered]
    max_bytes: int
    lasts_seconds: int


class ByUrl(Struct, frozen=True, tag=True):
    """A public address travels in the order and the seller fetches from it."""


InputRoute = Multipart | DataUri | Upload | ByUrl


class Callback(Struct, frozen=True):
    """How to tell a genuine callback, and which order it speaks of. It is only a hint: what counts is asking.

    `id_header`: the signed header, in lower case, by which the seller tells one callback from another.
    """

    verify: Callable[[Mapping[str, str], bytes, Sequence[str], float], bool]
    read: Callable[[bytes], str | None]
    id_header: str | None = None


class Adapter(Struct, frozen=True, kw_only=True):
    """A seller's wire dialect: a record of pure functions. `docs` and `checked`: what it was written from, and when."""

    name: str
    docs: str
    checked: date
    speaks: Speaks
    authorize: Callable[[str], Mapping[str, str]]
    error: Callable[[Answer], Fault]
    submit: Step[Order, Progress]
    poll: Step[Ticket, Progress] | None = None
    find: Step[Reference, Progress] | None = None
    callback: Callback | None = None
    inputs: tuple[InputRoute, ...] = ()
    replay_key: bool = False
    holds_connection: bool = False
