"""Checks of a request's headers that no HTTP library makes: headers that may come only once, the host, the encoding."""

import re
from collections.abc import Iterable

from gateway.api.api_errors import ApiError

# Headers with one value, by their lower-case name. A second value would be ignored silently, and a proxy may read
# another one than the gateway.
_SINGLE_HEADERS = {
    name.lower().encode(): name
    for name in (
        *("Authorization", "Api-Key", "X-Api-Key", "Content-Type", "Content-Encoding", "Idempotency-Key"),
        *("X-Stainless-Retry-Count", "Last-Event-ID", "Range", "If-Range"),
    )
}
_CLOSE_HEADERS = {"connection": "close"}
# A host with or without a port (RFC 9110, 7.2). Empty if the client has no host to name.
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=%:\[\]-]*")
MAX_SHOWN_LENGTH = 60


def reject_conflicting_headers(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises ApiError if a header that has one value was sent with two. A line that is only repeated does no harm."""
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _SINGLE_HEADERS and values.setdefault(name, value) != value:
            header = _SINGLE_HEADERS[name]
            message = f"The header {header} was sent twice, with different values. Send it once."
            raise ApiError(400, "duplicate_header", message, param=header)


def find_head_error(http_version: str, headers: Iterable[tuple[bytes, bytes]]) -> ApiError | None:
    """Returns the error of a request whose host or body is not clear. The connection cannot be used after it."""
    hosts, encodings = [], []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            encodings.append(value)
    if encodings and [encoding.strip().lower() for encoding in encodings] != [b"chunked"]:
        shown = _show_value(b", ".join(encodings))
        message = f"Transfer-Encoding '{shown}' is not supported: send the body uncompressed, or only 'chunked'."
        return ApiError(
            400, "unsupported_transfer_encoding", message, param="Transfer-Encoding", headers=_CLOSE_HEADERS
        )
    if len(hosts) > 1 or (not hosts and http_version == "1.1"):
        message = f"The request has {'several' if hosts else 'no'} Host headers: HTTP/1.1 requires exactly one."
        return ApiError(400, "invalid_host", message, param="Host", headers=_CLOSE_HEADERS)
    if hosts and not _HOST.fullmatch(hosts[0].strip()):
        message = "Invalid Host header: it must be a host name or address, with or without a port."
        return ApiError(400, "invalid_host", message, param="Host", headers=_CLOSE_HEADERS)
    return None


def _show_value(value: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "?" for byte in value[:MAX_SHOWN_LENGTH])
