"""What a request is called: in its answer, in the lines of the log, and by whoever asks about it."""

import re
from collections.abc import Iterable
from uuid import uuid4

HEADER = b"x-request-id"
# As tracing systems write theirs; nothing that a log, a header or a page could take for something else.
_SANE = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's own, if it is one and can be passed on; else a new one."""
    given = [value for name, value in headers if name.lower() == HEADER]
    if len(given) == 1 and _SANE.fullmatch(given[0]):
        return given[0].decode()
    return f"req_{uuid4().hex}"
