"""Types of options: each refuses a value that cannot work before anything is sent, and says which values can."""

import math
import re
from typing import Any

import click
import httpx

MAX_PORT = 65_535
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)


class GatewayUrlType(click.ParamType[str]):
    """An http(s) URL. It may end with /v1, as clients of OpenAI write it."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            url = httpx.URL(value)
        except (httpx.InvalidURL, UnicodeError):
            url = httpx.URL("")
        is_usable = url.scheme in ("http", "https") and url.host and not (url.query or url.fragment)
        if not is_usable or (url.port or 0) > MAX_PORT:
            message = f"Invalid gateway URL '{value}': use an http:// or https:// URL like http://127.0.0.1:8080"
            raise click.UsageError(message, ctx)
        return str(value)


class VisibleTextType(click.ParamType[str]):
    """1 to 255 visible ASCII characters: the value of a header."""

    name = "text"

    def __init__(self, description: str) -> None:
        self._description = description

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _VISIBLE_ASCII.fullmatch(value):
            raise click.UsageError(f"Invalid {self._description}: it must have 1 to 255 visible ASCII characters", ctx)
        return str(value)


class JobIdType(click.ParamType[str]):
    """The id of a job."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _JOB_ID.fullmatch(value):
            raise click.UsageError(f"Invalid job id '{value}': `image-gateway jobs` lists the ids", ctx)
        return str(value)


class SecondsRange(click.FloatRange):
    """A number of seconds. Rejects nan, which would pass every comparison."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


def parse_pairs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Parses name=value options. Refuses a repeated name: one of its values would be ignored."""
    pairs: dict[str, str] = {}
    for value in values:
        name, separator, content = value.partition("=")
        if not (name and separator):
            raise click.BadParameter(f"{value!r} is not name=value")
        if name in pairs:
            raise click.BadParameter(f"'{name}' has two values: {pairs[name]!r} and {content!r}")
        pairs[name] = content
    return pairs
