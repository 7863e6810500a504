"""Redacts the text of a seller: URLs, credentials, and what it repeats of the prompt. Pure.

Sellers quote prompts in rejections, and keys in authentication errors. The result may be logged and shown to the team.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator

from gateway.config.redaction import REDACTED
from gateway.engine.credential_redaction import redact_credentials

MAX_TEXT_CHARACTERS = 500
# The rest is not read: a redacted text is rarely shorter than half.
MAX_RAW_CHARACTERS = 1_000
# Services quote each other, so that a text may be escaped a few times. One that is escaped more often is hidden.
MAX_ESCAPES = 4
# A run that the text has in common with the prompt, or with an API key, is redacted from this length on.
MIN_PROMPT_RUN, MIN_SECRET_RUN = 12, 8
# Shorter words say little, and are part of every message.
MIN_WORD_CHARACTERS = 4
# Contains no letter or digit, so that it cannot be a word of the prompt.
PROMPT_REDACTED = "[…]"

_MARKS_BETWEEN_WORDS = " \"',;(){}[]<>。、"
_PERCENT_ESCAPES = re.compile(r"(?:%[0-9a-f]{2})+", re.IGNORECASE)
_CODE_ESCAPE = re.compile(r"(?:\\|%)u\{?([0-9a-f]{4})\}?|\\x([0-9a-f]{2})", re.IGNORECASE)
# Becomes a space at the end.
_ESCAPED_SPACE = "␣"
# Letters, digits and marks of ASCII in the width of Chinese characters.
_FULL_WIDTH = {ord("！") + offset: ord("!") + offset for offset in range(ord("~") - ord("!") + 1)}
_CHARACTER_ESCAPE = re.compile(r"\\([nrtbf\"'/\\])")
_WORD = re.compile(r"[^\W_]+")
_QUOTATIONS = tuple(
    re.compile(rf"(?<!\w){opening}(.+?){closing}(?!\w)")
    for opening, closing in ('""', "''", "``", "“”", "‘’", "«»", "「」")
)
_MARKED = re.compile(b"\1+")

# The characters of a text that are compared, each with its position in the text.
Projection = list[tuple[str, int]]


def redact_seller_text(text: str, prompt: str, secrets: Iterable[str] = (), *, is_refusal: bool = False) -> str:
    """Returns the text on one line, at most 500 characters, redacted.

    No URL, no long run of a secret or of the prompt, and no quotation of the prompt is left. If the text refuses the
    content, no word of the prompt with four or more characters is left, since such a text is about these words.
    """
    unescaped = _unescape(_cut(_flatten(text)))
    if unescaped is None:
        return REDACTED
    text = _flatten(redact_credentials(unescaped).replace(_ESCAPED_SPACE, " "))
    for secret in secrets:
        text = _redact_runs(text, [secret], MIN_SECRET_RUN, REDACTED)
    return _redact_prompt(text, prompt, is_refusal)[:MAX_TEXT_CHARACTERS]


def _cut(text: str) -> str:
    """Returns at most MAX_RAW_CHARACTERS, without the word that is cut: a part of a key is not recognised.

    JSON may have no spaces, so a word ends at marks that no key contains, too.
    """
    if len(text) <= MAX_RAW_CHARACTERS:
        return text
    end = max(text.rfind(mark, 0, MAX_RAW_CHARACTERS + 1) for mark in _MARKS_BETWEEN_WORDS)
    return text[: end + 1].rstrip() or REDACTED


def _flatten(text: str) -> str:
    """Returns the text on one line: printable characters, single spaces, nothing invisible inside a word."""
    return " ".join(_replace_unprintable(text, " ").split())


def _replace_unprintable(text: str, replacement: str) -> str:
    text = "".join(character for character in text if unicodedata.category(character) != "Cf").translate(_FULL_WIDTH)
    return "".join(character if character.isprintable() else replacement for character in text)


def _unescape(text: str) -> str | None:
    """Undoes escapes of HTML, JSON and URLs: a text may contain the escaped text of another service, and that one, too.

    An escaped space becomes a mark, since it does not end a URL or a key. None: it is escaped too often.
    """
    for _ in range(MAX_ESCAPES):
        unescaped = _unescape_once(text)
        if unescaped == text:
            return text
        text = unescaped
    return text if _unescape_once(text) == text else None


def _unescape_once(text: str) -> str:
    text = _PERCENT_ESCAPES.sub(_decode_percent_escapes, html.unescape(text))
    text = _CODE_ESCAPE.sub(lambda escape: chr(int(escape[1] or escape[2], 16)).replace(" ", _ESCAPED_SPACE), text)
    # Joins the two halves of characters that JSON escapes as a pair.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = _CHARACTER_ESCAPE.sub(lambda escape: _ESCAPED_SPACE if escape[1] in "nrtbf" else escape[1], text)
    return _replace_unprintable(text, _ESCAPED_SPACE)


def _decode_percent_escapes(escapes: re.Match[str]) -> str:
    return bytes.fromhex(escapes[0].replace("%", "")).decode(errors="replace").replace(" ", _ESCAPED_SPACE)


# --- the prompt


def _redact_prompt(text: str, prompt: str, is_refusal: bool) -> str:
    """Redacts until nothing more is found, since a prompt may contain the mark of a redaction.

    Ends: each round removes letters or digits, or shortens the text.
    """
    unescaped = (_unescape(prompt) or prompt).replace(_ESCAPED_SPACE, " ")
    sources = list(dict.fromkeys((_flatten(prompt), _flatten(unescaped))))
    words = _list_private_words(sources, is_refusal)
    while True:
        marks = _mark_shared_runs(text, sources, MIN_PROMPT_RUN)
        # A run may begin or end within a word or a quotation, so all are searched in the same text.
        for start, end in (*_find_words(text, words), *_find_quotations(text, sources)):
            _mark(marks, start, end)
        redacted = _replace_marked(text, marks, PROMPT_REDACTED)
        if redacted == text:
            return text
        text = redacted


def _list_private_words(sources: Iterable[str], is_refusal: bool) -> set[str]:
    """Lists the prompt's words that are redacted even alone: identifiers of letters and digits, in a refusal all."""
    words = {word.casefold() for source in sources for word in _WORD.findall(source)}
    return {
        word
        for word in words
        if len(word) >= MIN_WORD_CHARACTERS and (is_refusal or not (word.isalpha() or word.isdigit()))
    }


def _find_words(text: str, words: set[str]) -> Iterator[tuple[int, int]]:
    return (word.span() for word in _WORD.finditer(text) if word[0].casefold() in words)


def _find_quotations(text: str, sources: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yields start and end of words in quotation marks that the prompt contains, however short."""
    folded_sources = [source.casefold() for source in sources]
    for pattern in _QUOTATIONS:
        for match in pattern.finditer(text):
            quotation = re.compile(rf"(?<![a-z0-9]){re.escape(match[1].strip().casefold())}(?![a-z0-9])")
            if _WORD.search(match[1]) and any(quotation.search(source) for source in folded_sources):
                yield match.span(1)


# --- common runs


def _redact_runs(text: str, sources: Iterable[str], min_run: int, replacement: str) -> str:
    return _replace_marked(text, _mark_shared_runs(text, sources, min_run), replacement)


def _mark_shared_runs(text: str, sources: Iterable[str], min_run: int) -> bytearray:
    """Marks the characters of all runs of at least `min_run` characters that the text has in common with a source.

    A shorter source is marked where it appears as a whole. Compared are the characters, and the letters and digits
    alone, so that neither case, accents nor punctuation hide a run.
    """
    marks = bytearray(len(text))
    characters, letters = _project_characters(text), _project_letters(text)
    for source in sources:
        for projection, compared in ((characters, source.casefold()), (letters, _keep_letters(source))):
            if _WORD.search(compared):
                for start, end in _find_runs(text, projection, compared, min_run):
                    _mark(marks, start, end)
    return marks


def _mark(marks: bytearray, start: int, end: int) -> None:
    marks[start:end] = b"\1" * (end - start)


def _replace_marked(text: str, marks: bytearray, replacement: str) -> str:
    pieces, end = [], 0
    for marked in _MARKED.finditer(marks):
        run = text[marked.start() : marked.end()]
        pieces += [text[end : marked.start()], run.replace(run.strip(), replacement)]
        end = marked.end()
    return "".join((*pieces, text[end:]))


def _find_runs(text: str, projection: Projection, source: str, min_run: int) -> Iterator[tuple[int, int]]:
    """Yields start and end, in the text, of the runs that the source contains."""
    run_length = min(min_run, len(source))
    characters = "".join(character for character, _ in projection)
    # Prompts may be long: a set is quicker than a search of each run.
    source_runs = set(_list_runs(source, run_length))
    for first, run in enumerate(_list_runs(characters, run_length)):
        if run in source_runs:
            start, end = projection[first][1], projection[first + run_length - 1][1] + 1
            if run_length == min_run or _is_whole_word(text, start, end):
                yield start, end


def _list_runs(text: str, length: int) -> list[str]:
    return [text[start : start + length] for start in range(len(text) - length + 1)]


def _is_whole_word(text: str, start: int, end: int) -> bool:
    neighbours = text[start - 1 : start], text[end : end + 1]
    return not any(neighbour.isascii() and neighbour.isalnum() for neighbour in neighbours)


def _project_characters(text: str) -> Projection:
    return [(folded, index) for index, character in enumerate(text) for folded in character.casefold()]


def _project_letters(text: str) -> Projection:
    return [(letter, index) for index, character in enumerate(text) for letter in _keep_letters(character)]


def _keep_letters(text: str) -> str:
    """Returns only the letters and digits, without case and accents."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text).casefold()))
