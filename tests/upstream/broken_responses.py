"""Servers that respond in broken ways."""

from tests.upstream.fake_servers import make_responder, make_sequence, reset_connection

HALF_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"


HALF_HEAD = b"HTTP/1.1 200 OK\r\nContent-Le"


HALF_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nhalf"


NO_LAST_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"


NO_BYTES = b""


BROKEN_RESPONSES = {
    "closes without a response": make_responder(NO_BYTES),
    "resets without a response": make_sequence(make_responder(NO_BYTES), reset_connection),
    "closes within the head": make_responder(HALF_HEAD),
    "resets within the head": make_sequence(make_responder(HALF_HEAD), reset_connection),
    "closes within the body": make_responder(HALF_BODY),
    "resets within the body": make_sequence(make_responder(HALF_BODY, interval=0.05), reset_connection),
    "closes within a chunk": make_responder(HALF_CHUNK),
    "resets within a chunk": make_sequence(make_responder(HALF_CHUNK, interval=0.05), reset_connection),
    "closes without the last chunk": make_responder(NO_LAST_CHUNK),
    "sends garbage": make_responder(b"\x16\x03\x01 this is no HTTP at all\r\n\r\n"),
    "sends an SSH banner": make_responder(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    "sends an invalid status": make_responder(b"HTTP/1.1 twohundred OK\r\n\r\n"),
    "sends two lengths": make_responder(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}!"),
    "sends a negative length": make_responder(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}"),
    "sends an invalid chunk": make_responder(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
    "sends endless headers": make_responder(b"HTTP/1.1 200 OK\r\n" + b"x-filler: 0123456789\r\n" * 100_000),
    "sends a header of a megabyte": make_responder(b"HTTP/1.1 200 OK\r\nx: " + b"y" * (1 << 20) + b"\r\n\r\n"),
}
