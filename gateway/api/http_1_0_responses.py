"""Responses to HTTP/1.0 clients, which cannot read chunks: a response without a length ends with its connection.

uvicorn closes the connection after each response to such a client, but sends chunks.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def send_without_chunks(cycle: RequestResponseCycle) -> None:
    """Makes the cycle send the body of a response without a length as it is."""
    send = cycle.send
    has_length = True

    async def send_unframed(message: Any) -> None:
        nonlocal has_length
        if message["type"] == "http.response.start":
            has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
            if not has_length:
                cycle.chunked_encoding = False
        elif not has_length:
            # uvicorn compares each piece of the body with the rest of the length.
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_unframed  # type: ignore[method-assign]
