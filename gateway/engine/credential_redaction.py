"""Redacts URLs, hosts, headers and credentials in the text of another service. Pure.

Three rules. An address is hidden by its form. The value after a word for credentials is hidden unless it is a word that
explains ("key is invalid"). A run that looks generated is hidden wherever it stands.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from msgspec import Struct

from gateway.config.redaction import REDACTED, redact

# --- addresses. Each pattern starts where a word starts, so that no character is read more than a few times.

_URL = re.compile(
    r"\bhttps?(?:\s*:\s*[/\\]+\s*|[^\w\s.,;)!?'\"/-])\S+"
    r"|(?<![\w+.-])[\w+.-]*+:?(?:\\*/){2,}\S*"
    r"|(?<![\w+.-])[\w+.-]++:\\*[/\\]\S*"
    r"|data:\S+|(?<!\w)data:|www\.\S+",
    re.IGNORECASE,
)
# A name with a port or a path is a host, whatever its last part is. Without them it may be the name of a field.
_HOST = re.compile(
    r"(?<![^\s@])[^\s@]+@[^\s@]\S*"
    r"|(?<![\w.-])(?:[a-z0-9-]+\.)+(?:com|net|org|io|ai|dev|app|cloud|co|example|internal|local"
    r"|localdomain|lan|corp|intranet|svc|eu|xyz)\b\S*"
    r"|(?<![\w.-])(?:(?:[a-z0-9-]+\.)+[a-z]{2,}|localhost)(?::\d+\b|/)\S*"
    r"|(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}\b\S*"
    r"|(?<![\w:])\[?(?=[0-9a-f:]*\d)(?=[0-9a-f:]*::|(?:[0-9a-f]{1,4}:){7})[0-9a-f]{1,4}(?::{1,2}[0-9a-f]{1,4})+\S*",
    re.IGNORECASE,
)
# A name that could not be resolved is a host, also without a domain.
_UNRESOLVED_HOST = re.compile(
    r"\b(ENOTFOUND|EAI_AGAIN|lookup|resolve(?: host(?:name)?)?|unknown host|not known)([:\s'\"]+)"
    r"(?:(?:[a-z0-9]+[.-])+[a-z0-9]+|[a-z]+\d+)\b",
    re.IGNORECASE,
)
_PRIVATE_KEY = re.compile(r"-{4,} ?BEGIN.*")
# Headers without credentials, which may describe the account or the gateway.
_HEADER = re.compile(
    r"(?<![\w-])(?:[A-Z][a-z0-9]*+(?:-[A-Z][A-Za-z0-9]*+)+"
    r"|(?i:x-[a-z0-9-]+|idempotency-key|user-agent|content-type|request-id|etag|referer|host))[\"']?\s*[:=]\s*\S+"
)

# --- named credentials

_IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[-_.]+[A-Za-z0-9]+)*")
_IDENTIFIER_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def _list_words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Their values have several words or are chosen by people, so that everything after them is hidden.
_LONG_CREDENTIALS = _list_words(
    """auth authorization authentication authenticate cookie cookies password passwords passwd passphrase
    passcode pwd pw credentials keys secrets"""
)
_CREDENTIALS = _LONG_CREDENTIALS | _list_words(
    """key apikey authkey accesskey secretkey privatekey token authtoken accesstoken secret credential bearer
    pass signature sig hmac jwt session sessionid sessid sid csrf xsrf nonce otp negotiate ntlm"""
)
# These words have one meaning, so that any value after them is hidden, with or without marks between.
_CERTAIN_CREDENTIALS = _list_words(
    """password passwords passwd passphrase passcode pwd pw cookie cookies apikey authkey accesskey secretkey
    privatekey authtoken accesstoken bearer jwt"""
)
# Such a name is hidden with its value, as each name of several parts.
_HEADERS = _list_words("authorization cookie apikey")
# The words before "key" in a credential. Alone, and in the plural, "key" may be the name of a field.
_QUALIFIERS = _list_words("api access secret private client auth")
# They end names like PHPSESSID.
_ENDINGS = ("apikey", "token", "password", "secret", "sessionid", "sessid")
_SCHEMES = _list_words("token bearer basic digest key apikey negotiate ntlm hmac jwt oauth")
_NEUTRAL_PARTS = _list_words("value id hash header string data text sha v")
_LINKING_WORDS = (
    "header|value|phrase|number|no|id|provided|given|received|sent|used|supplied|is|was|are|were|to|equals"
    "|ending|in|with|named|called|matches"
)
# Between the name and its value: marks, and words that link the two.
_SEPARATOR = re.compile(rf"[\W_]{{0,12}}+(?:(?i:{_LINKING_WORDS})\b[\W_]{{1,12}}+){{0,4}}(?:b[\"'])?")
_STATEMENT = re.compile(r"[:=>→]| - |\b(?:is|was|are|were|to|equals|provided|value)\b", re.IGNORECASE)
_END_OF_SENTENCE = re.compile(r"[.!?;]\s")
_CLOSING_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}
_VALUE = re.compile(r"[^\s\"'`“”‘’]+")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_MAX_WORDS_OF_EXPLANATION = 3
_PARTICIPLE = re.compile(r"[a-z]{2,}(?:ed|ing|able|ible|less)")
# Such a word after the name of a credential is a part of the sentence.
_EXPLAINING = _list_words(
    """a an the this that these it its your their or and nor not no none null nil undefined unset but in on
    at for from with without within by to too of off as if when while which who whose because after before until
    since per than then so also only still already yet never again now please see check use try get set is are
    was were be been being has have had does did do should must may might can cannot could will would shall
    isn't wasn't doesn't don't can't won't required missing invalid incorrect wrong expired revoked disabled
    empty blank absent unknown unauthorized unauthenticated forbidden denied rejected refused failed failure
    fails error errors malformed inactive active blocked suspended deleted limited exceeded exhausted mismatch
    needed valid provided given sent used found supplied specified true false field fields input parameter
    parameters header headers value values format type types string length name limit limits count quota scope
    scopes permission permissions account team request requests user method scheme system service server
    verification validation problem issue"""
)
# The credential may come first: "abc is not a valid API key".
_VALUE_BEFORE_NAME = re.compile(
    r"(?<!\S)[\"'`“‘(]?([^\s\"'`”’)]++)[\"'`”’)]?(?=,? (?:is|was|isn't)(?: not)?"
    r"(?: (?:a|an|the|[yo]+ur|my|valid|invalid|correct|wrong|unknown|secret|known|api|access|auth)){0,5}"
    r" (?:api[-_]?)?(?:key|token|password|secret|credential)\b)",
    re.IGNORECASE,
)

# --- runs that look generated

_TOKEN = re.compile(r"[A-Za-z0-9]+(?:[-_.~+/=]+[A-Za-z0-9]+)*=*")
_SEGMENT = re.compile(r"[A-Za-z0-9]+")
_DIMENSIONS = re.compile(r"\d+(?:x\d+)+", re.IGNORECASE)
_HEX_LETTERS = re.compile(r"[a-f]{16,}|[A-F]{16,}")


def redact_credentials(text: str) -> str:
    for pattern in (_URL, _PRIVATE_KEY):
        text = pattern.sub(REDACTED, text)
    text = _VALUE_BEFORE_NAME.sub(_redact_value_before_name, _redact_named_credentials(text))
    for pattern in (_HEADER, _HOST):
        text = pattern.sub(REDACTED, text)
    text = _UNRESOLVED_HOST.sub(rf"\1\2{REDACTED}", text)
    return redact(_TOKEN.sub(lambda token: REDACTED if _looks_generated(token[0]) else token[0], text))


# --- named credentials


class _NamedValue(Struct, frozen=True):
    """What follows the name of a credential. `separator`: what stands between. `has_quote`: the value is quoted."""

    credential: str
    is_header: bool
    is_qualified: bool
    # The credential is the last word of the name, unlike in `token_limit`.
    is_named_last: bool
    separator: str
    has_quote: bool
    value: str
    following: str

    @property
    def is_secret(self) -> bool:
        if _is_unusual(self.value):
            return True
        return self.is_named_last and self._is_certain and not self._is_explanation

    @property
    def is_stated(self) -> bool:
        return _STATEMENT.search(self.separator) is not None

    @property
    def _is_certain(self) -> bool:
        if self.is_stated:
            return True
        if _END_OF_SENTENCE.search(self.separator):
            return False
        return self.is_header or self.is_qualified or self.credential in _CERTAIN_CREDENTIALS

    @property
    def _is_explanation(self) -> bool:
        if self.separator == "=":
            return False
        if self.has_quote:
            words = self.value.split() or [""]
        elif self.is_stated and self.credential in _LONG_CREDENTIALS:
            words = [self.value, *self.following.split()][:_MAX_WORDS_OF_EXPLANATION]
        else:
            words = [self.value]
        is_name = not self.is_stated and set(_split_name(words[0])) & _CREDENTIALS
        first, *rest = words
        return bool(is_name or self._explains(first)) and all(
            self._explains(word) or word.strip(".,").lower() in _CREDENTIALS for word in rest
        )

    def _explains(self, text: str) -> bool:
        """Returns whether a word is a part of a sentence. A password may be any rarer word."""
        word = text.strip(".,;:!?()[]{}")
        if not _WORD.fullmatch(word):
            return False
        may_be_participle = self.credential not in _CERTAIN_CREDENTIALS and self.credential != "secret"
        return word.lower() in _EXPLAINING or (may_be_participle and bool(_PARTICIPLE.fullmatch(word)))


def _redact_named_credentials(text: str) -> str:
    pieces, end = [], 0
    for start, stop in _find_named_credentials(text):
        pieces += [text[end:start], REDACTED]
        end = stop
    return "".join((*pieces, text[end:]))


def _find_named_credentials(text: str) -> Iterator[tuple[int, int]]:
    """Yields start and end of what is hidden: the value, with the name if that may be the name of a header."""
    end, previous = 0, ""
    for name in _IDENTIFIER.finditer(text):
        if name.start() >= end and (found := _find_value(text, name, previous)) is not None:
            start, end = found
            yield start, end
        previous = name[0].lower()


def _find_value(text: str, name: re.Match[str], previous: str) -> tuple[int, int] | None:
    parts = _split_name(name[0])
    is_private_header = parts[0] == "x" and len(parts) > 2
    credential = parts[-1] if is_private_header else next((p for p in reversed(parts) if p in _CREDENTIALS), None)
    is_qualified = previous in _QUALIFIERS
    is_field = credential == "keys" and len(parts) == 1 and not is_qualified
    separator = _SEPARATOR.match(text, name.end())
    if credential is None or is_field or separator is None or separator.end() == name.end():
        return None
    start = separator.end()
    # The apostrophe of "key's" does not quote anything.
    quote = "" if separator[0] == "'" else _CLOSING_QUOTES.get(separator[0][-1], "")
    end = _find_end(text, start, quote)
    found = _NamedValue(
        credential=credential,
        is_header=len(parts) > 1 or credential in _HEADERS,
        is_qualified=is_qualified,
        is_named_last=parts[-1] == credential,
        separator=separator[0],
        has_quote=bool(quote),
        value=text[start:end],
        following=text[end : end + 100],
    )
    if start == end or not found.is_secret:
        return None
    if found.is_stated and credential in _LONG_CREDENTIALS:
        end = len(text)
    return (name.start() if found.is_header else start), start + len(text[start:end].rstrip("*"))


def _find_end(text: str, start: int, closing_quote: str) -> int:
    """Returns the end of a value: that of its quotation, or of its word, in which case it may follow its scheme."""
    if closing_quote:
        end = text.find(closing_quote, start)
        return end if end >= 0 else len(text)
    value = _VALUE.match(text, start)
    end = value.end() if value else start
    while value and value[0].strip(":=,").lower() in _SCHEMES:
        end = value.end()
        value = _VALUE.match(text, end + 1)
        end = value.end() if value else end
    return end


def _split_name(name: str) -> list[str]:
    """Returns the lower-case words of `X_API_KEY` or `apiKey`, without last ones like that of `key_id`."""
    if name.lower() in _CREDENTIALS:
        return [name.lower()]
    parts = [_find_ending(part.lower()) for part in _IDENTIFIER_PART.findall(name)] or [""]
    while len(parts) > 1 and parts[-1] in _NEUTRAL_PARTS:
        parts.pop()
    return parts


def _find_ending(part: str) -> str:
    return next((ending for ending in _ENDINGS if part.endswith(ending)), part)


def _is_unusual(value: str) -> bool:
    """Returns whether a value is neither a word nor a number of a sentence."""
    value = value.strip(".,;:!?()[]{}<>*")
    if not value or _DIMENSIONS.fullmatch(value):
        return False
    if value.isdigit():
        return len(value) >= 8
    has_digit, has_letter = any(map(str.isdigit, value)), any(map(str.isalpha, value))
    mixes_cases = any(first.islower() and second.isupper() for first, second in pairwise(value))
    return (has_digit and has_letter) or mixes_cases or len(value) >= 20 or bool(set(value) & set("+=~$%^&#@!"))


def _redact_value_before_name(match: re.Match[str]) -> str:
    value = match[1]
    is_word = value.lower() in _EXPLAINING | _CREDENTIALS
    return match[0] if is_word else match[0].replace(value, REDACTED)


# --- runs that look generated


def _looks_generated(token: str) -> bool:
    segments = [segment for segment in _SEGMENT.findall(token) if not _DIMENSIONS.fullmatch(segment)]
    if any(_is_random(segment) for segment in segments):
        return True
    length, changes = sum(map(len, segments)), sum(map(_count_changes, segments))
    return length >= 12 and changes >= 4 and changes * 6 >= length and any(map(str.isdigit, token))


def _is_random(segment: str) -> bool:
    length = len(segment)
    if length < 8:
        return False
    changes = _count_changes(segment)
    if segment.isalpha():
        # Humps of words in CamelCase have more than two letters on average.
        has_short_humps = length >= 12 and changes * 3 >= length
        return has_short_humps or length >= 25 or _HEX_LETTERS.fullmatch(segment) is not None
    if segment.isdigit():
        return length >= 20
    return (changes >= 4 and changes * 5 >= length * 2) or (length >= 10 and changes >= 3 and changes * 4 >= length)


def _count_changes(segment: str) -> int:
    """Counts changes between letters and digits, and from lower to upper case."""
    return sum(
        first.isdigit() != second.isdigit() or (first.islower() and second.isupper())
        for first, second in pairwise(segment)
    )
