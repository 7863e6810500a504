"""The trace of a request or a job, in the format of W3C's headers `traceparent` and `tracestate`.

Span ids of jobs and attempts are derived from what is stored. So the replica that ends a job makes the span that all
others name as their parent, and no process keeps open spans in memory.
"""

import re
from collections.abc import Iterable
from hashlib import blake2b
from random import getrandbits

from msgspec import Struct

TRACEPARENT_HEADER, TRACESTATE_HEADER = b"traceparent", b"tracestate"
SAMPLED_FLAG = 0x01
# Of version 00: sampled, and "the trace id is random" of its second edition. Others must not be passed on.
_KNOWN_FLAGS = 0x03
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_TRACE_ID_BITS, _SPAN_ID_BYTES = 128, 8
# What W3C asks everyone to pass on. Of a longer list, entries above 128 bytes are dropped first, then the last ones.
MAX_TRACESTATE_BYTES, _LARGE_ENTRY_BYTES, _MAX_ENTRIES = 512, 128, 32
_TRACESTATE_ENTRY = re.compile(
    rb"([a-z0-9][a-z0-9_\-*/@]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


class TraceContext(Struct, frozen=True):
    """A span of a trace: the parent of what happens next. Ids are lower-case hexadecimal."""

    trace_id: str
    span_id: str
    flags: int = SAMPLED_FLAG

    @property
    def is_sampled(self) -> bool:
        return bool(self.flags & SAMPLED_FLAG)

    def __str__(self) -> str:
        """Returns the header of version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def parse_traceparent(value: bytes) -> TraceContext | None:
    """Parses a header. Returns None if it is invalid: then the sender's trace is unknown.

    Of a newer version, the fields of version 00 are read.
    """
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    is_valid_version = version != b"ff" and not (version == b"00" and more is not None)
    if not is_valid_version or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id.decode(), span_id.decode(), int(flags, 16) & _KNOWN_FLAGS)


def find_trace_context(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """Returns the client's trace context; None without a header, with an invalid one, and with several."""
    values = [value for name, value in headers if name == TRACEPARENT_HEADER]
    return parse_traceparent(values[0]) if len(values) == 1 else None


def find_tracestate(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Returns the states of tracing systems that the client sent, shortened if they are too long; None without any, or
    if one is invalid. They belong to a valid `traceparent`."""
    lines = [value for name, value in headers if name == TRACESTATE_HEADER]
    if not lines:
        return None
    entries = [entry for part in b",".join(lines).split(b",") if (entry := part.strip(b" \t"))]
    matches = [_TRACESTATE_ENTRY.fullmatch(entry) for entry in entries]
    keys = {match[1] for match in matches if match is not None}
    if len(keys) != len(entries) or len(entries) > _MAX_ENTRIES:
        return None
    while len(b",".join(entries)) > MAX_TRACESTATE_BYTES:
        large = [number for number, entry in enumerate(entries) if len(entry) > _LARGE_ENTRY_BYTES]
        del entries[large[-1] if large else -1]
    return b",".join(entries).decode() or None


def read_saved_context(traceparent: str | None) -> TraceContext | None:
    """Returns the trace context that a job was saved with."""
    return parse_traceparent(traceparent.encode()) if traceparent is not None else None


def make_trace_id() -> str:
    """Makes a random trace id. It is not a secret."""
    return f"{getrandbits(_TRACE_ID_BITS) or 1:032x}"


def make_span_id() -> str:
    return f"{getrandbits(8 * _SPAN_ID_BYTES) or 1:016x}"


def derive_job_span_id(job_id: str) -> str:
    return _derive_span_id(job_id)


def derive_attempt_span_id(job_id: str, attempt: int) -> str:
    return _derive_span_id(f"{job_id}-{attempt}")


def _derive_span_id(name: str) -> str:
    digest = blake2b(name.encode(), digest_size=_SPAN_ID_BYTES, person=b"igw.span").hexdigest()
    # A span id of zeros is invalid.
    return digest if int(digest, 16) else f"{1:016x}"
