"""Types of configuration values that are written as text: amounts, percentages, sizes, ratios, dates, URLs, secret
references."""

import re
from collections.abc import Mapping
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from gateway.money import format_usd, parse_usd
from providers.image_sizes import SizeError, parse_ratio, parse_size

Schema = dict[str, Any]
MAX_SECRET_BYTES = 64 << 10
HTTPS_PORT = 443
MAX_WEBHOOK_URL_LENGTH = 2_048
PORT_PATTERN = r"(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])"
_ORIGIN = r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:" + PORT_PATTERN + ")?"
# Printable characters without those that start a fragment or end a user name, and without a backslash.
_WEBHOOK_URL = re.compile(_ORIGIN + r"([/?][!-\"$-?A-\[\]-~]*)?", re.ASCII)
_BASE_URL = _ORIGIN + r"(/[A-Za-z0-9._~\-/]*)?"
NOT_FOUND = "not found"
UNSENDABLE = "contains a line break or another character that no HTTP header can carry"
_HEADER_TEXT = re.compile(r"[\t\x20-\x7e]*", re.ASCII)


def _describe_text(pattern: str, example: str) -> Schema:
    """Returns the JSON Schema of a text."""
    return {"type": "string", "pattern": pattern, "examples": [example]}


class Usd(int):
    """Micro-USD, written as a decimal string."""

    EXAMPLE: ClassVar[str] = '"0.133"'
    SCHEMA: ClassVar[Schema] = _describe_text(r"^\d{1,7}(\.\d{1,6})?$", "0.133")

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(parse_usd(text))

    def __str__(self) -> str:
        return format_usd(self)


class Percent(int):
    """Hundredths of a percent, written like 5%."""

    EXAMPLE: ClassVar[str] = "5%"
    SCHEMA: ClassVar[Schema] = _describe_text(r"^(100(\.0{1,2})?|0?\d{1,2}(\.\d{1,2})?)%$", EXAMPLE)

    @classmethod
    def parse(cls, text: str) -> Self:
        if not (match := re.fullmatch(r"(\d{1,3})(?:\.(\d{1,2}))?%", text, re.ASCII)):
            raise ValueError(f"Invalid percentage {text[:40]!r}. Write it like 5%")
        value = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
        if value > 10_000:
            raise ValueError("Invalid percentage. It cannot exceed 100%")
        return cls(value)

    def __str__(self) -> str:
        whole, part = divmod(self, 100)
        return f"{whole}.{part:02}".rstrip("0").rstrip(".") + "%"


class ImageCount(int):
    """A number of images, written like 500 images."""

    EXAMPLE: ClassVar[str] = "500 images"
    SCHEMA: ClassVar[Schema] = _describe_text(r"^[1-9]\d{0,6} images$", EXAMPLE)

    @classmethod
    def parse(cls, text: str) -> Self:
        if not (match := re.fullmatch(r"([1-9]\d{0,6}) images", text, re.ASCII)):
            raise ValueError(f"Invalid number of images {text[:40]!r}. Write it like {cls.EXAMPLE}")
        return cls(match[1])

    def __str__(self) -> str:
        return f"{int(self)} images"


class SizeValue(str):
    """Pixels, written like 1024x1024."""

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "1024x1024"
    SCHEMA: ClassVar[Schema] = _describe_text(r"^[1-9]\d{0,4}x[1-9]\d{0,4}$", EXAMPLE)

    @classmethod
    def parse(cls, text: str) -> Self:
        parse_size(text)
        return cls(text)

    @property
    def pixels(self) -> tuple[int, int]:
        return parse_size(self)


class Ratio(str):
    """An aspect ratio, written like 16:9."""

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "16:9"
    SCHEMA: ClassVar[Schema] = _describe_text(r"^[1-9]\d{0,3}:[1-9]\d{0,3}$", EXAMPLE)

    @classmethod
    def parse(cls, text: str) -> Self:
        parse_ratio(text)
        return cls(text)


class Word(str):
    """The name of a quality, a resolution or a background: clients send it, and metrics have it as a label."""

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "high"
    SCHEMA: ClassVar[Schema] = {"type": "string", "pattern": r"^(?!(auto|any)$)[a-z0-9][a-z0-9._-]{0,31}$"}

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,31}", text, re.ASCII):
            raise ValueError(f"Invalid name {text[:40]!r}. Use 1 to 32 lower-case letters, digits or ._-")
        if text in ("auto", "any"):
            raise ValueError(f"Invalid name '{text}': it has a meaning of its own. Use another name")
        return cls(text)


class Day(str):
    """A calendar day, written like 2026-07-23."""

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "2026-07-23"
    SCHEMA: ClassVar[Schema] = _describe_text(r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$", EXAMPLE)

    @classmethod
    def parse(cls, text: str) -> Self:
        try:
            # fromisoformat also accepts forms without dashes and with weeks; only one form is allowed here.
            is_day = date.fromisoformat(text).isoformat() == text
        except ValueError:
            is_day = False
        if not is_day:
            raise ValueError(f"Invalid date {text[:40]!r}. Write it like {cls.EXAMPLE}")
        return cls(text)


class BaseUrl(str):
    """Base URL of a seller's API."""

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "https://api.example.com"
    SCHEMA: ClassVar[Schema] = _describe_text(f"^{_BASE_URL}$", EXAMPLE)

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(_BASE_URL, text, re.ASCII):
            # The message does not repeat the text, which may contain credentials.
            raise ValueError("Invalid base URL. Write it like https://api.example.com, without credentials or a query")
        return cls(text.rstrip("/"))

    @property
    def is_plain_http(self) -> bool:
        """Whether this is plain HTTP without a port, which is refused in the public internet."""
        return urlsplit(self).scheme == "http" and urlsplit(self).port is None


class WebOrigin(str):
    """Origin of web pages, as browsers send it; `*` means all."""

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "https://app.example.com"
    SCHEMA: ClassVar[Schema] = _describe_text(r"^(\*|[A-Za-z][A-Za-z0-9+.\-]*://[^/@?#*\s]+)$", EXAMPLE)

    @classmethod
    def parse(cls, text: str) -> Self:
        origin = text.lower()
        if not re.fullmatch(r"\*|[a-z][a-z0-9+.\-]*://([a-z0-9.\-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", origin, re.ASCII):
            raise ValueError(
                f"Invalid origin {text[:80]!r}. Write it like {cls.EXAMPLE}, without a path, or '*' for all"
            )
        # Browsers leave out the default port.
        return cls(re.sub(r"^(https://.*):443$|^(http://.*):80$", r"\1\2", origin))


class WebhookUrl(str):
    """URL to which webhooks are sent."""

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "https://example.com/webhooks"
    SCHEMA: ClassVar[Schema] = {
        **_describe_text(r"^https?://[^@#\\s]+$", EXAMPLE),
        "maxLength": MAX_WEBHOOK_URL_LENGTH,
    }

    @classmethod
    def parse(cls, text: str) -> Self:
        if len(text) > MAX_WEBHOOK_URL_LENGTH:
            raise ValueError(f"Invalid URL. It must have at most {MAX_WEBHOOK_URL_LENGTH:,} characters")
        if not _WEBHOOK_URL.fullmatch(text):
            # The message does not repeat the text, which may contain a token.
            raise ValueError(f"Invalid URL. Write it like {cls.EXAMPLE}, without a user name or a fragment")
        return cls(text)

    @property
    def is_public(self) -> bool:
        """Whether this is https on its own port, as all URLs of the public internet must be."""
        parts = urlsplit(self)
        return parts.scheme == "https" and parts.port in (None, HTTPS_PORT)

    @property
    def host(self) -> str:
        return urlsplit(self).hostname or ""


class TargetName(str):
    """The name of a target of webhooks."""

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "orders"
    SCHEMA: ClassVar[Schema] = {"type": "string", "pattern": r"^[a-z0-9][a-z0-9_-]{0,31}$"}

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", text, re.ASCII):
            raise ValueError(f"Invalid name {text[:40]!r}. Use 1 to 32 lower-case letters, digits or _-")
        return cls(text)


class SecretRef(str):
    """Reference to a secret: env:NAME or file:/path. Secrets themselves never appear in the configuration."""

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "env:NAME, in capitals, or file:/path"
    SCHEMA: ClassVar[Schema] = {"type": "string", "pattern": r"^(env:[A-Z_][A-Z0-9_]*|file:/.+)$"}

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"env:[A-Z_][A-Z0-9_]*|file:/[^\0]+", text, re.ASCII):
            # The message does not repeat the text, which may be the secret itself, as may a name in lower case.
            raise ValueError(f"Invalid secret reference. Write {cls.EXAMPLE}, never the secret itself")
        return cls(text)

    def resolve(self, environ: Mapping[str, str]) -> "Secret | None":
        """Returns the secret, or None if it is missing."""
        kind, _, location = self.partition(":")
        try:
            text = environ.get(location, "") if kind == "env" else _read_secret_file(Path(location))
        except (OSError, UnicodeDecodeError):
            return None
        return Secret(text.strip()) if text.strip() else None

    def make_placeholder(self) -> "Secret":
        """Returns a placeholder secret."""
        return Secret(f"assumed {self}")

    def describe_absence(self) -> str:
        """Describes why the secret is missing."""
        kind, _, location = self.partition(":")
        try:
            is_empty = kind == "file" and not _read_secret_file(Path(location)).strip()
        except UnicodeDecodeError:
            return "is not UTF-8"
        except OSError as error:
            return (error.strerror or NOT_FOUND) if error.errno == 0 else f"cannot be read ({error.strerror})"
        return "is empty" if is_empty else NOT_FOUND


def _read_secret_file(path: Path) -> str:
    """Reads a secret file. Rejects pipes before opening them, which would block until another process writes."""
    if not path.exists():
        raise OSError(0, NOT_FOUND)
    if not path.is_file():
        raise OSError(0, "is not a regular file")
    with path.open("rb") as file:
        data = file.read(MAX_SECRET_BYTES + 1)
    if len(data) > MAX_SECRET_BYTES:
        raise OSError(0, f"is larger than {MAX_SECRET_BYTES:,} bytes")
    return data.decode()


class Secret:
    """A secret in memory. Its repr does not contain the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    @property
    def is_sendable(self) -> bool:
        """Whether an HTTP header can carry the secret."""
        return _HEADER_TEXT.fullmatch(self._value) is not None

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def sha256_hex(key: str) -> str:
    """Returns the SHA-256 of an API key. The gateway stores only this hash."""
    return sha256(key.encode()).hexdigest()


__all__ = [
    "BaseUrl",
    "Day",
    "ImageCount",
    "Percent",
    "Ratio",
    "Secret",
    "SecretRef",
    "SizeError",
    "SizeValue",
    "TargetName",
    "Usd",
    "WebOrigin",
    "WebhookUrl",
    "Word",
    "sha256_hex",
]
