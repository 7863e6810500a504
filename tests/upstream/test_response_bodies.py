"""Response bodies: decoded if allowed in size and encoding, otherwise unreadable."""

import gzip
import zlib

import pytest

from gateway.upstream.seller_client import CallOptions
from providers.adapter import Answer, Call
from providers.faults import FaultKind
from providers.order_status import NoAnswer
from tests.upstream.broken_responses import BROKEN_RESPONSES
from tests.upstream.fake_servers import API_KEY, build_response, get_fault_kind, make_responder, run_async, send_call

HUGE_BYTES = 200 << 20
GZIP_BOMB = gzip.compress(b"0" * (64 << 20), 9)
UNREADABLE_RESPONSES = {
    "200 MB, declared": make_responder(
        f"HTTP/1.1 200 OK\r\nContent-Length: {HUGE_BYTES}\r\n\r\n".encode(), *[b"0" * 65536] * 99
    ),
    "200 MB in chunks": make_responder(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + b"0" * 65536 + b"\r\n"] * 3200
    ),
    "200 MB until it closes": make_responder(b"HTTP/1.1 200 OK\r\n\r\n", *[b"0" * 65536] * 3200),
    "a gzip bomb": make_responder(build_response(GZIP_BOMB, headers=["Content-Encoding: gzip"])),
    "invalid gzip": make_responder(build_response(b"{}", headers=["Content-Encoding: gzip"])),
    "truncated gzip": make_responder(
        build_response(gzip.compress(b"{}" * 99)[:-9], headers=["Content-Encoding: gzip"])
    ),
    "an unrequested encoding": make_responder(build_response(b"{}", headers=["Content-Encoding: br"])),
}


@pytest.mark.parametrize("name", UNREADABLE_RESPONSES)
def test_response_that_cannot_be_read_is_unreadable(name: str) -> None:
    assert get_fault_kind(run_async(send_call(UNREADABLE_RESPONSES[name]))) is FaultKind.UNREADABLE


def test_response_larger_than_the_limit_is_unreadable() -> None:
    options = CallOptions(timeout_seconds=30.0, max_response_bytes=100_000)
    outcome = run_async(send_call(make_responder(build_response(b"0" * 100_000)), options=options))
    assert isinstance(outcome, Answer)
    assert len(outcome.body) == 100_000
    assert (
        get_fault_kind(run_async(send_call(make_responder(build_response(b"0" * 100_001)), options=options)))
        is FaultKind.UNREADABLE
    )


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 308, 400, 401, 404, 429, 500, 503])
def test_every_status_is_returned_as_an_answer(status: int) -> None:
    body = b"" if status == 204 else b"{}"
    outcome = run_async(
        send_call(
            make_responder(build_response(body, f"{status} Said", ["Location: /elsewhere", "X-Two: 1", "x-two: 2"]))
        )
    )
    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.body) == (status, body)
    assert outcome.headers["location"] == "/elsewhere"
    assert outcome.headers["x-two"] == "1, 2"


def test_unrequested_compression_is_decoded() -> None:
    for compressed, encoding in ((gzip.compress(b'{"a":1}'), "gzip"), (zlib.compress(b'{"a":1}'), "deflate")):
        outcome = run_async(
            send_call(make_responder(build_response(compressed, headers=[f"Content-Encoding: {encoding}"])))
        )
        assert isinstance(outcome, Answer)
        assert outcome.body == b'{"a":1}'


def test_faults_contain_no_urls_headers_or_bodies() -> None:
    """The fault contains nothing of the account, the call or the seller's response."""
    call = Call(method="POST", location="/canary-path?canary-query", headers={"x-id": "canary-header"}, body=b"canary")
    handlers = [
        *BROKEN_RESPONSES.values(),
        make_responder(b"canary-answer\r\n\r\n"),
        UNREADABLE_RESPONSES["invalid gzip"],
    ]
    for handle in handlers:
        outcome = run_async(send_call(handle, call))
        assert isinstance(outcome, NoAnswer)
        assert outcome.fault.message.isidentifier(), outcome.fault.message
        assert "canary" not in repr(outcome)
        assert API_KEY not in repr(outcome)
