"""URLs, headers and credentials of any form are redacted; sentences that explain a failure stay as they are."""

from itertools import product

import pytest

from gateway.engine.seller_text_redaction import (
    MAX_RAW_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    _unescape,
    redact_seller_text,
)
from tests.unit.engine.credential_text_cases import GENERATED_KEYS, SECRET, TEXTS_WITH_SECRET
from tests.unit.engine.readable_text_cases import READABLE_TEXTS

PROMPT = "a kite on a beach"

NAMES = (
    *("api_key", "apiKey", "API-Key", "x-api-key", "X_API_KEY", "xApiKey", "OPENAI_API_KEY", "password", "passwd"),
    *(
        "user_password",
        "dbPassword",
        "secret",
        "client_secret",
        "secretKey",
        "private_key",
        "token",
        "access_token",
        "accessToken",
    ),
    *(
        "refreshToken",
        "session_token",
        "auth_token",
        "X-Auth-Token",
        "Authorization",
        "Cookie",
        "Bearer",
        "signature",
        "jwt",
    ),
)
SEPARATORS = (
    *(
        "=",
        ":",
        ": ",
        " = ",
        " := ",
        "=>",
        " => ",
        " -> ",
        " is ",
        " was ",
        " value: ",
        " is: ",
        ': "',
        '":"',
        "':'",
        '="',
    ),
    *('\\":\\"', "%3D", "%3A%20", "&#61;", "&quot;:&quot;", "\\u003d"),
)
VALUES = ("abcdefgh", "hunter2", "Tr0ub4dor&3", "correcthorse", "s3cr3t!", "p@ssw0rd")
SURROUNDINGS = ("{}", "error {} here", "({})", "curl -H '{}'", '{{"{}"}}', "bad request; {}; retry", "?a=1&{}&b=2")


def redact(text: str) -> str:
    return redact_seller_text(text, PROMPT)


@pytest.mark.parametrize("text", TEXTS_WITH_SECRET)
def test_named_or_addressed_secret_is_redacted(text: str) -> None:
    assert SECRET in text
    assert SECRET not in redact(text).lower()


@pytest.mark.parametrize("name", NAMES)
def test_value_is_redacted_after_each_name_and_separator(name: str) -> None:
    shown = [
        text
        for separator, value, surroundings in product(SEPARATORS, VALUES, SURROUNDINGS)
        if value in redact(text := surroundings.format(name + separator + value))
    ]
    assert shown == []


@pytest.mark.parametrize("surroundings", ["{}", "got {} here", "x={}", '"{}",', "a.b({})"])
@pytest.mark.parametrize("key", GENERATED_KEYS)
def test_generated_key_is_redacted_wherever_it_stands(key: str, surroundings: str) -> None:
    redacted = redact(surroundings.format(key))
    assert "(hidden)" in redacted
    assert not any(key[start : start + 6] in redacted for start in range(len(key) - 5))


@pytest.mark.parametrize("text", READABLE_TEXTS)
def test_explanation_stays_readable(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "piece", ["key", "key=", "key-", "a.", "//", ":/", "%25", "&amp;", "\\\\", "'", "x-", "Aa1", "token "]
)
def test_only_the_beginning_of_a_long_text_is_read(piece: str) -> None:
    """So the time for 100 kB is that for MAX_RAW_CHARACTERS."""
    text = piece * (100_000 // len(piece))
    assert redact(text) == redact(text[: 2 * MAX_RAW_CHARACTERS])
    assert len(redact(text)) <= MAX_TEXT_CHARACTERS


def test_word_at_the_end_of_what_is_read_is_not_shown_in_part() -> None:
    text = f"https://{'x' * (MAX_RAW_CHARACTERS - 15)} quartz-vessel"
    assert "quar" in text[:MAX_RAW_CHARACTERS]
    assert redact_seller_text(text, PROMPT, ["quartz-vessel"]) == "(hidden)"


def test_text_that_is_escaped_too_often_is_hidden() -> None:
    text = "https://abcdefgh"
    for _ in range(3):
        text = text.replace("%", "%25").replace(":", "%3A").replace("/", "%2F")
    assert _unescape(text) == "https://abcdefgh"
    for _ in range(5):
        text = text.replace("%", "%25")
    assert redact(text) == "(hidden)"
