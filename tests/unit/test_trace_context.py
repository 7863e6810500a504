"""The headers `traceparent` and `tracestate`: what is accepted, and what counts as absent."""

import pytest

from gateway.trace_context import (
    TraceContext,
    derive_attempt_span_id,
    derive_job_span_id,
    find_trace_context,
    find_tracestate,
    make_span_id,
    make_trace_id,
    parse_traceparent,
    read_saved_context,
)

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE_ID}-{SPAN_ID}-01"
SAMPLED, NOT_SAMPLED = TraceContext(TRACE_ID, SPAN_ID, 1), TraceContext(TRACE_ID, SPAN_ID, 0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (VALID, SAMPLED),
        (f"00-{TRACE_ID}-{SPAN_ID}-00", NOT_SAMPLED),
        # The second edition's flag is passed on; unknown flags are not.
        (f"00-{TRACE_ID}-{SPAN_ID}-03", TraceContext(TRACE_ID, SPAN_ID, 3)),
        (f"00-{TRACE_ID}-{SPAN_ID}-ff", TraceContext(TRACE_ID, SPAN_ID, 3)),
        (f"00-{TRACE_ID}-{SPAN_ID}-fc", NOT_SAMPLED),
        # Newer versions, which may be longer.
        (f"01-{TRACE_ID}-{SPAN_ID}-01", SAMPLED),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-brings", SAMPLED),
        (f"fe-{TRACE_ID}-{SPAN_ID}-01-", SAMPLED),
    ],
)
def test_valid_header_is_read(value: str, expected: TraceContext) -> None:
    assert parse_traceparent(value.encode()) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "00", "-", "---", "00-", VALID[:-1], VALID[1:]),
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"ff-{TRACE_ID}-{SPAN_ID}-01-more",
        f"00-{TRACE_ID}-{SPAN_ID}-01-",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"01-{TRACE_ID}-{SPAN_ID}-01more",
        f"01-{TRACE_ID}-{SPAN_ID}-01.",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID.upper()}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-0A",
        f"0G-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{TRACE_ID[:-1]}g-{SPAN_ID}-01",
        f"00-{TRACE_ID}{SPAN_ID}-01",
        f"00_{TRACE_ID}_{SPAN_ID}_01",
        f"00-{TRACE_ID}-{SPAN_ID}-1",
        f"00-{TRACE_ID}-{SPAN_ID}-001",
        f"00-{SPAN_ID}-{TRACE_ID}-01",
        *(
            f" {VALID}",
            f"{VALID} ",
            f"{VALID}\n",
            f"\t{VALID}",
            f"{VALID},{VALID}",
            f"{VALID}, {VALID}",
            f"{VALID}\x00",
        ),
        # Digits of another script are digits to Python's int().
        f"00-{TRACE_ID}-{SPAN_ID}-٠١",
        f"00-+{TRACE_ID[1:]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-0x{SPAN_ID[2:]}-01",
        "0" * 10_000,
        "00-" * 5_000,
    ],
)
def test_invalid_header_counts_as_absent(value: str) -> None:
    assert parse_traceparent(value.encode()) is None


def test_saved_context_is_read_as_it_was_written() -> None:
    for context in (SAMPLED, NOT_SAMPLED, TraceContext(TRACE_ID, SPAN_ID, 3)):
        assert read_saved_context(str(context)) == context
    assert str(SAMPLED) == VALID
    assert read_saved_context(None) is None


def test_newer_version_is_passed_on_as_version_00() -> None:
    assert str(parse_traceparent(f"cc-{TRACE_ID}-{SPAN_ID}-01-more".encode())) == VALID


def test_header_that_occurs_twice_counts_as_absent() -> None:
    header = (b"traceparent", VALID.encode())
    assert find_trace_context([(b"host", b"a"), header]) == SAMPLED
    assert find_trace_context([header, header]) is None
    assert find_trace_context([(b"tracestate", b"a=b")]) is None


def read_tracestate(*lines: str) -> str | None:
    return find_tracestate([(b"host", b"a"), *((b"tracestate", line.encode("latin-1")) for line in lines)])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["congo=t61rcWkgMzE"], "congo=t61rcWkgMzE"),
        (["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        # Several lines are one list; spaces and empty entries between entries mean nothing.
        (["a=1", "b=2,c=3"], "a=1,b=2,c=3"),
        ([" a=1 ,\t, b=2,"], "a=1,b=2"),
        (["fw529a3039@dt=FfAAAA;x:y, 0_-*/@z=a b!~"], "fw529a3039@dt=FfAAAA;x:y,0_-*/@z=a b!~"),
        ([",".join(f"k{number}=v" for number in range(32))], ",".join(f"k{number}=v" for number in range(32))),
    ],
)
def test_tracestate_is_passed_on(lines: list[str], expected: str) -> None:
    assert read_tracestate(*lines) == expected


@pytest.mark.parametrize(
    "line",
    [
        *("", " ,\t,", "a", "a=", "=1", "A=1", "a b=1", "-a=1", "a=1=2", "a=\x01", "a=é", "a=1,a=2", "a=1,b"),
        f"{'k' * 257}=1",
        f"a={'v' * 257}",
        ",".join(f"k{number}=v" for number in range(33)),
        "a=1," * 20_000,
    ],
)
def test_invalid_tracestate_counts_as_absent(line: str) -> None:
    assert read_tracestate(line) is None


def test_long_tracestate_loses_large_entries_and_then_the_last_ones() -> None:
    small = [f"k{number}={'v' * 90}" for number in range(5)]
    large = [f"l{number}={'v' * 200}" for number in range(2)]
    assert read_tracestate(",".join((large[0], *small[:3], large[1]))) == ",".join((large[0], *small[:3]))
    assert read_tracestate(",".join((large[0], *small, large[1]))) == ",".join(small)
    assert read_tracestate(",".join((*small, "k5=1"))) == ",".join((*small, "k5=1"))
    assert read_tracestate(",".join((*small, "k5=" + "v" * 60))) == ",".join(small)


def test_derived_span_ids_are_valid_and_distinct() -> None:
    jobs = [f"job_{number}" for number in range(100)]
    span_ids = {derive_job_span_id(job) for job in jobs}
    span_ids |= {derive_attempt_span_id(job, attempt) for job in jobs for attempt in range(1, 11)}
    assert len(span_ids) == 1_100
    assert all(parse_traceparent(f"00-{TRACE_ID}-{span_id}-01".encode()) for span_id in span_ids)


def test_derived_span_ids_never_change() -> None:
    """Replicas of two versions make the spans of one job."""
    assert derive_job_span_id("job_1") == "d6a23fda8bbecac5"
    assert derive_attempt_span_id("job_1", 2) == "712c9255f2c94dd8"


def test_random_ids_are_valid() -> None:
    contexts = [TraceContext(make_trace_id(), make_span_id()) for _ in range(100)]
    assert [read_saved_context(str(context)) for context in contexts] == contexts
    assert len({context.trace_id for context in contexts}) == 100
