"""Parsing helpers that every adapter uses: cost, Retry-After, ids, images, text."""

from base64 import b64encode
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import parsing
from providers.order_status import StatusNote
from providers.orders import ImageBytes, ImageUrl


@pytest.mark.parametrize(
    ("value", "micros"),
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
def test_plausible_cost_is_parsed_to_micro_dollars(value: object, micros: int) -> None:
    assert parsing.parse_cost(value) == (micros, ())


@pytest.mark.parametrize(
    "value", ["", "free", "0.1 USD", "0,06", float("nan"), "NaN", "sNaN", "Infinity", True, [], {}]
)
def test_unparsable_cost_is_noted(value: object) -> None:
    assert parsing.parse_cost(value) == (None, (StatusNote.COST_UNREADABLE,))


@pytest.mark.parametrize("value", [-0.01, "-1", 101, "1e400", "1e999999", 10**40, 1e308])
def test_implausible_cost_is_noted(value: object) -> None:
    assert parsing.parse_cost(value) == (None, (StatusNote.COST_IMPLAUSIBLE,))


def test_absent_cost_has_no_note() -> None:
    assert parsing.parse_cost(None) == (None, ())


@given(st.integers(0, 100_000_000))
def test_every_micro_dollar_survives_text_and_float(micros: int) -> None:
    usd = Decimal(micros) / 1_000_000
    assert parsing.parse_cost(str(usd)) == (micros, ())
    assert parsing.parse_cost(float(usd)) == (micros, ())


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
def test_retry_after_is_parsed(header: str, seconds: float) -> None:
    headers = {"retry-after": header, "date": "Mon, 01 Jun 2026 10:00:00 GMT"}
    assert parsing.parse_retry_after(headers) == seconds


@pytest.mark.parametrize(
    "header", ["", "-1", "soon", "1e9", "inf", "nan", "٣", "Mon, 99 Jun 2026 10:00:30 GMT", "1" * 400]
)
def test_invalid_retry_after_is_none(header: str) -> None:
    assert parsing.parse_retry_after({"retry-after": header, "date": "Mon, 01 Jun 2026 10:00:00 GMT"}) is None


def test_retry_after_date_needs_date_header() -> None:
    """Adapters have no clock, and the gateway's clock may differ from the seller's."""
    assert parsing.parse_retry_after({"retry-after": "Mon, 01 Jun 2026 10:00:30 GMT"}) is None


@pytest.mark.parametrize("value", ["019ee0c2-7a10-7b3e-9c55-2f0a6f3b1d20", "task_abc123", "a", 4711, "a" * 200])
def test_order_ids_are_parsed(value: object) -> None:
    assert parsing.parse_order_id(value) == str(value)


@pytest.mark.parametrize(
    "value", [None, "", " ", "../x", "a/b", "a?b", "a#b", ".", "..", "-a", "a\n", "ä", "a" * 201, 7.5, True, [], {}]
)
def test_unsafe_order_id_is_none(value: object) -> None:
    assert parsing.parse_order_id(value) is None


@pytest.mark.parametrize(
    "url", ["https://a.example/x.png?sig=%2F&e=1", "http://127.0.0.1:8091/files/a.png", "https://[2001:db8::1]/x"]
)
def test_image_urls_are_parsed(url: str) -> None:
    assert parsing.parse_image(url) == ImageUrl(url)


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
def test_invalid_image_url_is_none(value: object) -> None:
    assert parsing.parse_image(value) is None


def test_data_uri_is_decoded() -> None:
    assert parsing.parse_image("data:image/webp;base64,AAEC") == ImageBytes(b"\0\1\2", "image/webp", "")


@given(st.one_of(st.binary().map(lambda data: b64encode(data).decode()), st.text("QUJD=-_ \n", max_size=40)))
def test_base64_decodes_alike_whole_and_in_slices(encoded: str) -> None:
    decoded = parsing.decode_base64(encoded)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parsing, "_SLICE_CHARACTERS", 8)
        assert parsing.decode_base64(encoded) == decoded


@pytest.mark.parametrize("extra_bytes", [-1, 0, 1, 2, 3, 4])
def test_base64_longer_than_one_slice_is_decoded(extra_bytes: int) -> None:
    data = bytes((3 << 18) + extra_bytes)
    assert parsing.decode_base64(b64encode(data).decode()) == data


def test_text_is_sanitized_and_shortened() -> None:
    assert parsing.sanitize_text("a\r\nb\0c\u202e d") == "a b c d"
    assert parsing.sanitize_text("k\u200be\u2060y\u00ad-1") == "key-1"
    assert len(parsing.sanitize_text("x" * 10_000)) == parsing.MAX_TEXT_CHARACTERS
    assert parsing.sanitize_text({"a": 1}) == parsing.sanitize_text(None) == ""


def test_unsendable_and_reserved_headers_are_dropped() -> None:
    raw_headers = {
        "Content-Type": "image/png",
        "Authorization": "x",
        "Host": "x",
        "cookie": "x",
        "a b": "x",
        "x-a": "\r\n",
        "x-b": 7,
    }
    assert parsing.parse_upload_headers(raw_headers) == {"content-type": "image/png"}
    assert parsing.parse_upload_headers("nonsense") == {}


@pytest.mark.parametrize(
    "name", ["Transfer-Encoding", "content-length", "Proxy-Authorization", "Connection", "TE", "expect"]
)
def test_framing_and_authorization_headers_are_reserved(name: str) -> None:
    assert parsing.parse_upload_headers({name: "x", "x-amz-acl": "private"}) == {"x-amz-acl": "private"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2026-06-01T10:00:22Z", 1780308022.0), ("2026-06-01T12:00:22.500+02:00", 1780308022.5)],
)
def test_timestamp_with_an_offset_is_parsed(text: str, seconds: float) -> None:
    assert parsing.parse_timestamp(text) == seconds


@pytest.mark.parametrize("value", [None, 1780308022, "", "2026-06-01T10:00:22", "yesterday", "2026-13-01T00:00:00Z"])
def test_unreadable_timestamp_is_none(value: object) -> None:
    assert parsing.parse_timestamp(value) is None
