"""A seller's text is redacted before it is stored, shown or logged."""

import html
import json
import re
import time
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.engine.seller_text_redaction import MAX_TEXT_CHARACTERS, redact_seller_text
from providers.parsing import sanitize_text

PROMPT = "Portrait of Angela Example in front of the Café Größe, order A7-x99, oil on canvas"
KEY = "rfk_live_9f8e7d6c5b4a3210"
# Does not look like a key: only the account's configuration says that it is one.
PLAIN_KEY = "quartz-vessel-17"
MAX_PROMPT_RUN, MAX_LETTER_RUN = 20, 12
URL = re.compile(r"\w+://|www\.|data:", re.IGNORECASE)

WORDS = st.sampled_from(
    [
        "a",
        "red",
        "lighthouse",
        "at dawn",
        "größe",
        "ﬁsh",
        "İstanbul",
        "灯台の写真",
        "👩\u200d🚀",
        "A7x99",
        "\n",
        "  ",
        "\u200b",
        "'",
        '"',
        "&amp;",
        "%20",
        "\\n",
        "\\u00e9",
        "(hidden)",
        "[…]",
        "!?",
        "-",
        "…",
        "https://a.example/x",
    ]
)
PROMPTS = st.lists(WORDS | st.text(max_size=12), max_size=30).map(" ".join) | st.text(max_size=200)
ESCAPES = st.sampled_from([str, json.dumps, html.escape, quote, str.upper, str.lower, repr])
FILLERS = st.text(max_size=20) | st.sampled_from(
    [
        f"Incorrect API key provided: {KEY}.",
        f"Authorization: Bearer {KEY}",
        f'{{"x-api-key": "{KEY}"}}',
        KEY,
        PLAIN_KEY,
        f"key={PLAIN_KEY}",
        "see https://docs.seller.example/errors?key=1#x",
        "https:\\/\\/files.example\\/a.png?sig=1",
        "data:image/png;base64,iVBORw0KGgo",
    ]
)


@st.composite
def texts_about_prompts(draw: st.DrawFn) -> tuple[str, str]:
    """Draws a prompt, and a text that quotes parts of it, escaped in some way, between other things."""
    prompt = draw(PROMPTS)
    pieces = []
    for _ in range(draw(st.integers(0, 4))):
        start, length = draw(st.integers(0, len(prompt) // 2)), draw(st.integers(12, 24) | st.integers(1, 80))
        pieces += [draw(FILLERS), draw(ESCAPES)(prompt[start : start + length])]
    return prompt, draw(st.sampled_from(["", " ", "'", ": "])).join([*pieces, draw(FILLERS)])


@given(texts_about_prompts(), st.booleans())
@example((PROMPT, f"refused: {PROMPT[5:18]}, {PROMPT[28:48]}"), False)
@example((PROMPT, r"refused: Caf\u00e9 Gr\u00f6\u00dfe, order A7-x99"), False)
@example(("(hidden) (hidden) x (hidden) y", f"(hidden) {KEY} x {KEY} y"), False)
@example(("a kite", "0://a.example"), False)
@example(("[…] lighthouse […] lighthouse […]", "[…] lighthouse […] lighthouse […]"), True)
def test_no_url_key_or_long_part_of_prompt_survives(prompt_and_text: tuple[str, str], is_refusal: bool) -> None:
    prompt, text = prompt_and_text
    redacted = redact_seller_text(text, prompt, [KEY, PLAIN_KEY], is_refusal=is_refusal)
    assert len(redacted) <= MAX_TEXT_CHARACTERS
    assert redacted.isprintable()
    assert not URL.search(redacted)
    assert not [key for key in (KEY, PLAIN_KEY) if key in redacted.lower()]
    assert not [run for run in list_runs(redacted, MAX_PROMPT_RUN) if run in prompt]
    assert not [run for run in list_runs(keep_letters(redacted), MAX_LETTER_RUN) if run in keep_letters(prompt)]


def list_runs(text: str, length: int) -> list[str]:
    return [text[start : start + length] for start in range(len(text) - length + 1)]


def keep_letters(text: str) -> str:
    """Returns the letters and digits of a text in lower case. A redacted part ends a run."""
    return "".join(
        character for character in text.lower().replace("[…]", "\0") if character.isalnum() or character == "\0"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Validation failed.; Input should be low, medium or high", None),
        ("The size 1024x1000 is invalid: both edges must be divisible by 16. Field input.image_size", None),
        ("Rate limit exceeded: 60 per minute", None),
        ("No active channel available for model gpt-image-2", None),
        (f"Incorrect key {KEY}. See https://x.example/keys.", "Incorrect key (hidden) See (hidden)"),
        ("key ***9f8e7d6c5b*** revoked", "key ***(hidden)*** revoked"),
        ("wrong header Authorization: Bearer abc, def", "wrong header (hidden)"),
        ("got X-Account-Id: 12 twice", "got (hidden) twice"),
        ("upstream 10.0.12.7:8443 at files.seller.example/a.png failed", "upstream (hidden) at (hidden) failed"),
        ("write to help@seller.example now", "write to (hidden) now"),
        ("fetch //cdn.seller.xyz/a.png failed", "fetch (hidden) failed"),
        ("image at seller-files.eu/a.png?size=1k expired", "image at (hidden) expired"),
        ("no route to relay.seller.ch:8443 now", "no route to (hidden) now"),
        ("localhost:8080/x and fd00::12 failed, [2001:db8::1]:443 too", "(hidden) and (hidden) failed, (hidden) too"),
        ("Idempotency-Key: job_24aaa-1 was used before", "(hidden) was used before"),
        ("bad User-Agent: image-gateway/1 here", "bad (hidden) here"),
        ("Field input.image_size: 5 is not in 1:1, 16:9", None),
        ("at 12:30:05 UTC: either low/medium, a::b or image/png", None),
        ("Public figure: ANGELA EXAMPLE.", "Public figure: […]."),
        ("Public figure: 'Angela'", "Public figure: '[…]'"),
        ("Rejected: “oil on canvas”", "Rejected: “[…]”"),
        ("don't use the word 'canvas'", "don't use the word '[…]'"),
        ("order x99 is not paid; order A7 neither", "order x99 is not paid; order A7 neither"),
        ("bad: portrait_of_angela-example", "bad: […]"),
        ("bad: CAFE GROSSE, ORDER", "bad: […]"),
        (r"bad: {\"prompt\": \"Angela Example in front of the Caf\u00e9\"}", 'bad: {"prompt": "[…]"}'),
        ("bad: Angela%20Example%20in%20front", "bad: […]"),
    ],
)  # fmt: skip
def test_text_keeps_what_explains_the_failure(text: str, expected: str | None) -> None:
    assert redact_seller_text(text, PROMPT, [KEY]) == (text if expected is None else expected)


@pytest.mark.parametrize("piece", ["x@", "@.", "a.", "//", "::", "a:"])
def test_redaction_of_repeated_characters_ends_soon(piece: str) -> None:
    """A text of this length took a minute when an address was searched from each of its characters."""
    started_at = time.process_time()
    redact_seller_text(piece * 2_500, PROMPT, [KEY])
    assert time.process_time() - started_at < 10.0


def test_refusal_keeps_no_word_of_prompt() -> None:
    text = "Rejected by the safety system: Angela (public figure), canvas. categories=violence"
    expected = "Rejected by the safety system: […] (public figure), […]. categories=violence"
    assert redact_seller_text(text, PROMPT, is_refusal=True) == expected


@pytest.mark.parametrize(
    ("text", "is_refusal", "expected"),
    [
        ("flagged: example, Café Größe, order", True, "flagged: […]"),
        ("flagged: 'Example', 'Café Größe, order'", False, "flagged: '[…]'"),
        ("flagged: simple, Café Größe, order", True, "flagged: simpl[…]"),
    ],
)
def test_word_that_a_run_begins_in_is_redacted_as_a_whole(text: str, is_refusal: bool, expected: str) -> None:
    assert redact_seller_text(text, PROMPT, is_refusal=is_refusal) == expected


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        ("cat", "cat is not a category: Cat", "[…] is not a category: […]"),
        ("a red fox", "refused: A  red fox!", "refused: […]!"),
        ("灯台", "拒否:灯台の写真", "拒否:[…]の写真"),
        ("", "Prompt is empty", "Prompt is empty"),
        ("...", "wait...", "wait..."),
    ],
)
def test_short_prompt_is_redacted_as_a_whole(prompt: str, text: str, expected: str) -> None:
    assert redact_seller_text(text, prompt) == expected


@pytest.mark.parametrize("hidden_start", [480, 490, 495, 980, 990, 995])
@pytest.mark.parametrize("filler", ["w ", "'w',", "。"], ids=["sentence", "list", "Chinese"])
@pytest.mark.parametrize("word", ["gpu-03.render.internal.seller.com", "Angela", "quartz-vessel-17"])
def test_long_text_of_adapter_shows_no_part_of_a_word(word: str, filler: str, hidden_start: int) -> None:
    text = (filler * 1_000)[:hidden_start] + " " + word + " w" * 200
    redacted = redact_seller_text(sanitize_text(text), PROMPT, [PLAIN_KEY], is_refusal=True)
    assert word[:3] not in redacted
    assert len(redacted) > MAX_TEXT_CHARACTERS - 10


def test_end_of_a_long_text_is_omitted_and_not_all_of_it() -> None:
    upstream_error = json.dumps({"error": [f"edge{number}" for number in range(1_000)]}, separators=(",", ":"))
    assert redact_seller_text(upstream_error, PROMPT).startswith('{"error":["edge0","edge1",')
    assert redact_seller_text("x" * 10_000, PROMPT) == "(hidden)"


def test_nothing_of_the_longest_prompt_remains() -> None:
    prompt = " ".join(f"word{number}" for number in range(4_000))
    redacted = redact_seller_text(prompt[100:700], prompt, [KEY], is_refusal=True)
    assert not [run for run in list_runs(redacted, MAX_PROMPT_RUN) if run in prompt]
