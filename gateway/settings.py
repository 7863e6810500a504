"""What the environment says, in one table. `image-gateway serve --help` and the README show it."""

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.config.shipped import find_folder

SECRET_BYTES = 32
LEAST_SECRET = 16


class SettingsError(ValueError):
    """Everything that is wrong, in words for an operator."""


class Settings(Struct, frozen=True, kw_only=True):
    config: Path
    host: str
    port: int
    data: Path
    redis_url: str | None
    secrets: tuple[bytes, ...]
    public_url: str | None
    assets: str | None
    assets_shared: bool
    drain_seconds: float
    log_format: str


class Option(Struct, frozen=True):
    """One variable: what it is without it, how its text is read, and what it does."""

    name: str
    default: str | None
    read: Callable[[str], Any]
    help: str


def _port(text: str) -> int:
    # Other scripts' digits are digits, too, and no numbers to `int`.
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or int(text) > 65_535:
        raise ValueError("must be a port, 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise ValueError("must be seconds, 0 to 86400")
    return value


def _url(text: str) -> str:
    if not _is_address(text):
        raise ValueError("must be an address like https://images.example.com")
    return text.rstrip("/")


def _is_address(text: str) -> bool:
    """Paths of ours are written behind it, so that nothing but a path may stand at its end."""
    try:
        parts = urlsplit(text)
        has_place = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return has_place and text.startswith(("http://", "https://")) and not re.search(r"[@?#\s]", text)


def _redis(text: str) -> str:
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return text


def _secrets(text: str) -> tuple[bytes, ...]:
    found = tuple(one.strip().encode() for one in text.split(",") if one.strip())
    if not found or any(len(one) < LEAST_SECRET for one in found):
        raise ValueError(f"must be a secret of at least {LEAST_SECRET} characters, or two with a comma while rotating")
    return found


def _flag(text: str) -> bool:
    if text.lower() not in ("yes", "no", "true", "false", "1", "0"):
        raise ValueError("must be yes or no")
    return text.lower() in ("yes", "true", "1")


def _log_format(text: str) -> str:
    if text not in ("json", "console"):
        raise ValueError("must be json or console")
    return text


OPTIONS: dict[str, Option] = {
    "config": Option("IGW_CONFIG", None, Path, "folder of the configuration; else config, else the shipped one"),
    "host": Option("IGW_HOST", "127.0.0.1", str, "address to listen on"),
    "port": Option("IGW_PORT", "8080", _port, "port to listen on"),
    "data": Option("IGW_DATA", "var", Path, "folder for SQLite, the generated secret and, unless IGW_ASSETS, images"),
    "redis_url": Option("REDIS_URL", None, _redis, "Redis for several replicas; without it, SQLite for this one"),
    "secrets": Option("IGW_SECRET", None, _secrets, "signs links and callbacks; needed with Redis, else generated"),
    "public_url": Option("IGW_PUBLIC_URL", None, _url, "where callers and sellers reach this gateway from outside"),
    "assets": Option("IGW_ASSETS", None, str, "where images lie: a folder, s3://, gs:// or az://"),
    "assets_shared": Option("IGW_ASSETS_SHARED", "no", _flag, "whether all replicas see the folder of IGW_ASSETS"),
    "drain_seconds": Option("IGW_DRAIN_SECONDS", "130", _seconds, "how long running jobs may finish on SIGTERM"),
    "log_format": Option("IGW_LOG", "json", _log_format, "json, or console for people"),
}


def settings_from(environ: Mapping[str, str], **given: object) -> Settings:
    """`given` is what the command line said; it outranks the environment. SettingsError says everything at once."""
    values: dict[str, Any] = {}
    problems = []
    for field, option in OPTIONS.items():
        text = environ.get(option.name) or option.default
        if given.get(field) is not None:
            values[field] = given[field]
            continue
        try:
            values[field] = option.read(text) if text is not None else None
        except ValueError as error:
            problems.append(f"{option.name} {error}")
    values["secrets"] = values.get("secrets") or ()
    values["config"] = find_folder(values.get("config"))
    if values.get("redis_url"):
        problems += _problems_of_replicas(values)
    if problems:
        raise SettingsError("\n".join(problems))
    return Settings(**values)


def _problems_of_replicas(values: Mapping[str, Any]) -> list[str]:
    """With Redis there may be several, even if there is one today."""
    found = []
    if not values["secrets"]:
        found.append("IGW_SECRET is needed with REDIS_URL: all replicas must sign alike")
    assets = values.get("assets")
    if not assets:
        found.append("IGW_ASSETS is needed with REDIS_URL: all replicas must see the same images")
    elif "://" not in assets and not values.get("assets_shared"):
        found.append(f"IGW_ASSETS is the folder {assets}: say IGW_ASSETS_SHARED=yes if all replicas see the same one")
    return found


def secret_of(settings: Settings) -> tuple[bytes, ...]:
    """Those that were set, or one that is made once and kept beside the data. SettingsError if it cannot be had."""
    if settings.secrets:
        return settings.secrets
    path = settings.data / "secret"
    try:
        if not path.exists():
            _make_secret(path)
        found = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: no secret can be kept there ({error.strerror}): set IGW_SECRET") from error
    if len(found.strip()) < LEAST_SECRET:
        raise SettingsError(
            f"{path} holds no secret of at least {LEAST_SECRET} characters: put back the one that was there, or delete "
            "it (a new one is made; links given out before end)"
        )
    return (found,)


def _make_secret(path: Path) -> None:
    """Whole or not at all, whatever ends this process; of several processes one is first, and all take its secret."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Only its owner may read such a file.
    descriptor, name = tempfile.mkstemp(prefix=".secret-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_hex(SECRET_BYTES).encode())
            file.flush()
            os.fsync(file.fileno())
        # Unlike renaming, this does not take the place of what another process has put there.
        with suppress(FileExistsError):
            os.link(name, path)
        _sync_folder(path.parent)
    finally:
        os.unlink(name)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
