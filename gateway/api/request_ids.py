"""Request ids: in the response header, in log lines and in error bodies."""

import re
from collections.abc import Iterable
from random import getrandbits

REQUEST_ID_HEADER = b"x-request-id"
# Allows the characters that tracing systems use, and none that could break a log line, a header or a page.
_VALID_REQUEST_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)


def get_or_create_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Returns the client's x-request-id if it is valid, else a new id."""
    values = [value for name, value in headers if name.lower() == REQUEST_ID_HEADER]
    if len(values) == 1 and _VALID_REQUEST_ID.fullmatch(values[0]):
        return values[0].decode()
    # Not a secret: bytes of the system's generator would cost a call of the kernel.
    return f"req_{getrandbits(128):032x}"
