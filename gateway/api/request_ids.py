"""What a request is called: in its answer, in the lines of the log, and by whoever asks about it."""

import re
from collections.abc import Iterable
from uuid import uuid4

REQUEST_ID_HEADER = b"x-request-id"
# As tracing systems write theirs; nothing that a log, a header or a page could take for something else.
_VALID_REQUEST_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)


def get_or_create_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's own, if it is one and can be passed on; else a new one."""
    values = [value for name, value in headers if name.lower() == REQUEST_ID_HEADER]
    if len(values) == 1 and _VALID_REQUEST_ID.fullmatch(values[0]):
        return values[0].decode()
    return f"req_{uuid4().hex}"
