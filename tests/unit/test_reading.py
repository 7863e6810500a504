"""Small readings that every dialect relies on: money, waits, ids, pictures, words."""

from base64 import b64encode
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import reading
from providers.orders import Inline, Link
from providers.progress import Note


@pytest.mark.parametrize(
    ("told", "micros"),
    [
        (0, 0),
        ("0", 0),
        (0.06, 60_000),
        ("0.133000", 133_000),
        (" 0.009 ", 9_000),
        (0.1 + 0.2, 300_000),
        ("0.0000005", 0),
        ("1e-3", 1_000),
        (100, 100_000_000),
    ],
)
def test_a_sane_cost_is_believed_to_the_micro_dollar(told: object, micros: int) -> None:
    assert reading.cost(told) == (micros, ())


@pytest.mark.parametrize("told", ["", "free", "0.1 USD", "0,06", float("nan"), "NaN", "sNaN", "Infinity", True, [], {}])
def test_a_cost_that_is_no_number_is_noted(told: object) -> None:
    assert reading.cost(told) == (None, (Note.COST_UNREADABLE,))


@pytest.mark.parametrize("told", [-0.01, "-1", 101, "1e400", "1e999999", 10**40, 1e308])
def test_a_cost_beyond_reason_is_noted(told: object) -> None:
    assert reading.cost(told) == (None, (Note.COST_ABSURD,))


def test_no_cost_is_no_oddity() -> None:
    assert reading.cost(None) == (None, ())


@given(st.integers(0, 100_000_000))
def test_every_micro_dollar_survives_the_way_through_text_and_float(micros: int) -> None:
    usd = Decimal(micros) / 1_000_000
    assert reading.cost(str(usd)) == (micros, ())
    assert reading.cost(float(usd)) == (micros, ())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("12", 12.0),
        ("2.5", 2.5),
        ("Mon, 01 Jun 2026 10:00:30 GMT", 30.0),
        ("Mon, 01 Jun 2026 09:00:00 GMT", 0.0),
    ],
)
def test_a_wait_is_read(header: str, seconds: float) -> None:
    headers = {"retry-after": header, "date": "Mon, 01 Jun 2026 10:00:00 GMT"}
    assert reading.retry_after(headers) == seconds


@pytest.mark.parametrize(
    "header", ["", "-1", "soon", "1e9", "inf", "nan", "٣", "Mon, 99 Jun 2026 10:00:30 GMT", "1" * 400]
)
def test_a_wait_that_says_nothing_is_none(header: str) -> None:
    assert reading.retry_after({"retry-after": header, "date": "Mon, 01 Jun 2026 10:00:00 GMT"}) is None


def test_a_date_without_the_answers_own_date_says_nothing() -> None:
    """There is no clock in here to compare it with, and ours may differ from theirs."""
    assert reading.retry_after({"retry-after": "Mon, 01 Jun 2026 10:00:30 GMT"}) is None


@pytest.mark.parametrize("value", ["019ee0c2-7a10-7b3e-9c55-2f0a6f3b1d20", "task_abc123", "a", 4711, "a" * 200])
def test_ids_are_read(value: object) -> None:
    assert reading.order_id(value) == str(value)


@pytest.mark.parametrize(
    "value", [None, "", " ", "../x", "a/b", "a?b", "a#b", ".", "..", "-a", "a\n", "ä", "a" * 201, 7.5, True, [], {}]
)
def test_what_could_not_be_part_of_a_path_is_no_id(value: object) -> None:
    assert reading.order_id(value) is None


@pytest.mark.parametrize(
    "url", ["https://a.example/x.png?sig=%2F&e=1", "http://127.0.0.1:8091/files/a.png", "https://[2001:db8::1]/x"]
)
def test_addresses_are_read(url: str) -> None:
    assert reading.picture(url) == Link(url)


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "",
        "x.png",
        "//a.example/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///x",
        "https://a b/",
        "https://ä.example/",
        "ftp://a/x",
        "data:text/html;base64,AAAA",
        "data:image/png;base64,",
        "data:image/png;base64,%%%",
        "data:image/png,abc",
    ],
)
def test_what_is_no_address_of_a_picture_is_not_read(value: object) -> None:
    assert reading.picture(value) is None


def test_a_data_uri_is_its_bytes() -> None:
    assert reading.picture("data:image/webp;base64,AAEC") == Inline(b"\0\1\2", "image/webp", "")


@given(st.one_of(st.binary().map(lambda data: b64encode(data).decode()), st.text("QUJD=-_ \n", max_size=40)))
def test_base64_is_read_alike_in_one_piece_and_in_slices(written: str) -> None:
    whole = reading.base64_bytes(written)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reading, "_SLICE_CHARACTERS", 8)
        assert reading.base64_bytes(written) == whole


@pytest.mark.parametrize("beyond", [-1, 0, 1, 2, 3, 4])
def test_base64_of_more_than_a_slice_is_read_whole(beyond: int) -> None:
    data = bytes((3 << 18) + beyond)
    assert reading.base64_bytes(b64encode(data).decode()) == data


def test_words_for_operators_are_short_and_printable() -> None:
    assert reading.shown("a\r\nb\0c\u202e d") == "a b c d"
    assert len(reading.shown("x" * 10_000)) == 500
    assert reading.shown({"a": 1}) == reading.shown(None) == ""


def test_headers_that_cannot_be_sent_or_are_ours_are_left_out() -> None:
    given = {
        "Content-Type": "image/png",
        "Authorization": "x",
        "Host": "x",
        "cookie": "x",
        "a b": "x",
        "x-a": "\r\n",
        "x-b": 7,
    }
    assert reading.headers(given) == {"content-type": "image/png"}
    assert reading.headers("nonsense") == {}


@pytest.mark.parametrize(
    "name", ["Transfer-Encoding", "content-length", "Proxy-Authorization", "Connection", "TE", "expect"]
)
def test_headers_that_frame_or_authorize_are_ours_alone(name: str) -> None:
    assert reading.headers({name: "x", "x-amz-acl": "private"}) == {"x-amz-acl": "private"}
