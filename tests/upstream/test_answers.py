"""What comes back: taken in as long as it is of a size and a form that was agreed."""

import gzip
import zlib

import pytest

from gateway.upstream.client import Exchange
from providers.faults import FaultKind
from providers.progress import Unanswered
from providers.spec import Answer, Call
from tests.upstream.servers import KEY, answer, kind, performed, run, says
from tests.upstream.test_failures import CUT

HUGE = 200 << 20
BOMB = gzip.compress(b"0" * (64 << 20), 9)
UNREADABLE = {
    "200 MB, announced": says(f"HTTP/1.1 200 OK\r\nContent-Length: {HUGE}\r\n\r\n".encode(), *[b"0" * 65536] * 99),
    "200 MB in chunks": says(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + b"0" * 65536 + b"\r\n"] * 3200
    ),
    "200 MB until it closes": says(b"HTTP/1.1 200 OK\r\n\r\n", *[b"0" * 65536] * 3200),
    "a gzip bomb": says(answer(BOMB, headers=["Content-Encoding: gzip"])),
    "gzip that is none": says(answer(b"{}", headers=["Content-Encoding: gzip"])),
    "gzip without its end": says(answer(gzip.compress(b"{}" * 99)[:-9], headers=["Content-Encoding: gzip"])),
    "an encoding that nobody asked for": says(answer(b"{}", headers=["Content-Encoding: br"])),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_answer_that_cannot_be_taken_in_is_unreadable(name: str) -> None:
    assert kind(run(performed(UNREADABLE[name]))) is FaultKind.UNREADABLE


def test_an_answer_may_be_as_large_as_agreed_and_no_larger() -> None:
    exchange = Exchange(seconds=5.0, most_bytes=100_000)
    outcome = run(performed(says(answer(b"0" * 100_000)), exchange=exchange))
    assert isinstance(outcome, Answer)
    assert len(outcome.body) == 100_000
    assert kind(run(performed(says(answer(b"0" * 100_001)), exchange=exchange))) is FaultKind.UNREADABLE


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 308, 400, 401, 404, 429, 500, 503])
def test_every_status_is_an_answer(status: int) -> None:
    body = b"" if status == 204 else b"{}"
    outcome = run(performed(says(answer(body, f"{status} Said", ["Location: /elsewhere", "X-Two: 1", "x-two: 2"]))))
    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.body) == (status, body)
    assert outcome.headers["location"] == "/elsewhere"
    assert outcome.headers["x-two"] == "1, 2"


def test_an_answer_packed_against_our_wish_is_unpacked() -> None:
    for packed, encoding in ((gzip.compress(b'{"a":1}'), "gzip"), (zlib.compress(b'{"a":1}'), "deflate")):
        outcome = run(performed(says(answer(packed, headers=[f"Content-Encoding: {encoding}"]))))
        assert isinstance(outcome, Answer)
        assert outcome.body == b'{"a":1}'


def test_no_failure_repeats_addresses_headers_or_bodies() -> None:
    """What the account, the call or the seller's own text held is nowhere in the fault."""
    call = Call(method="POST", location="/canary-path?canary-query", headers={"x-id": "canary-header"}, body=b"canary")
    behaviours = [*CUT.values(), says(b"canary-answer\r\n\r\n"), UNREADABLE["gzip that is none"]]
    for behave in behaviours:
        outcome = run(performed(behave, call))
        assert isinstance(outcome, Unanswered)
        assert outcome.fault.message.isidentifier(), outcome.fault.message
        assert "canary" not in repr(outcome)
        assert KEY not in repr(outcome)
