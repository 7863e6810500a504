"""Responses to HTTP/1.0 clients, which cannot read chunked encoding: a body without a length ends with its connection.

uvicorn closes the connection after each response to such a client, but encodes the body in chunks.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def send_without_chunks(cycle: RequestResponseCycle) -> None:
    """Makes the cycle send a body without a length as it is, not in chunks."""
    send = cycle.send
    has_length = True

    async def send_unframed(message: Any) -> None:
        nonlocal has_length
        if message["type"] == "http.response.start":
            has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
            if not has_length:
                cycle.chunked_encoding = False
        elif not has_length:
            # uvicorn rejects a piece of the body that is longer than the expected rest.
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_unframed  # type: ignore[method-assign]
