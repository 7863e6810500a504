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

from gateway.config.default_config import find_config_folder

SECRET_BYTES = 32
MIN_SECRET_LENGTH = 16


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


class EnvOption(Struct, frozen=True):
    """One variable: what it is without it, how its text is read, and what it does."""

    name: str
    default: str | None
    parse: Callable[[str], Any]
    help: str


def _parse_port(text: str) -> int:
    # Other scripts' digits are digits, too, and no numbers to `int`.
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or int(text) > 65_535:
        raise ValueError("must be a port, 0 to 65535")
    return int(text)


def _parse_seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise ValueError("must be seconds, 0 to 86400")
    return value


def _parse_base_url(text: str) -> str:
    if not _is_base_url(text):
        raise ValueError("must be an address like https://images.example.com")
    return text.rstrip("/")


def _is_base_url(text: str) -> bool:
    """Paths of ours are written behind it, so that nothing but a path may stand at its end."""
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return has_host and text.startswith(("http://", "https://")) and not re.search(r"[@?#\s]", text)


def _parse_redis_url(text: str) -> str:
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return text


def _parse_secrets(text: str) -> tuple[bytes, ...]:
    values = tuple(secret.strip().encode() for secret in text.split(",") if secret.strip())
    if not values or any(len(secret) < MIN_SECRET_LENGTH for secret in values):
        raise ValueError(
            f"must be a secret of at least {MIN_SECRET_LENGTH} characters, or two with a comma while rotating"
        )
    return values


def _parse_flag(text: str) -> bool:
    if text.lower() not in ("yes", "no", "true", "false", "1", "0"):
        raise ValueError("must be yes or no")
    return text.lower() in ("yes", "true", "1")


def _parse_log_format(text: str) -> str:
    if text not in ("json", "console"):
        raise ValueError("must be json or console")
    return text


ENV_OPTIONS: dict[str, EnvOption] = {
    "config": EnvOption("IGW_CONFIG", None, Path, "folder of the configuration; else config, else the shipped one"),
    "host": EnvOption("IGW_HOST", "127.0.0.1", str, "address to listen on"),
    "port": EnvOption("IGW_PORT", "8080", _parse_port, "port to listen on"),
    "data": EnvOption(
        "IGW_DATA", "var", Path, "folder for SQLite, the generated secret and, unless IGW_ASSETS, images"
    ),
    "redis_url": EnvOption(
        "REDIS_URL", None, _parse_redis_url, "Redis for several replicas; without it, SQLite for this one"
    ),
    "secrets": EnvOption(
        "IGW_SECRET", None, _parse_secrets, "signs links and callbacks; needed with Redis, else generated"
    ),
    "public_url": EnvOption(
        "IGW_PUBLIC_URL", None, _parse_base_url, "where callers and sellers reach this gateway from outside"
    ),
    "assets": EnvOption("IGW_ASSETS", None, str, "where images lie: a folder, s3://, gs:// or az://"),
    "assets_shared": EnvOption(
        "IGW_ASSETS_SHARED", "no", _parse_flag, "whether all replicas see the folder of IGW_ASSETS"
    ),
    "drain_seconds": EnvOption(
        "IGW_DRAIN_SECONDS", "130", _parse_seconds, "how long running jobs may finish on SIGTERM"
    ),
    "log_format": EnvOption("IGW_LOG", "json", _parse_log_format, "json, or console for people"),
}


def load_settings(environ: Mapping[str, str], **overrides: object) -> Settings:
    """`overrides` is what the command line said; it outranks the environment. SettingsError says everything at once."""
    values: dict[str, Any] = {}
    problems = []
    for field, option in ENV_OPTIONS.items():
        text = environ.get(option.name) or option.default
        if overrides.get(field) is not None:
            values[field] = overrides[field]
            continue
        try:
            values[field] = option.parse(text) if text is not None else None
        except ValueError as error:
            problems.append(f"{option.name} {error}")
    values["secrets"] = values.get("secrets") or ()
    values["config"] = find_config_folder(values.get("config"))
    if values.get("redis_url"):
        problems += _check_multi_replica(values)
    if problems:
        raise SettingsError("\n".join(problems))
    return Settings(**values)


def _check_multi_replica(values: Mapping[str, Any]) -> list[str]:
    """With Redis there may be several, even if there is one today."""
    problems = []
    if not values["secrets"]:
        problems.append("IGW_SECRET is needed with REDIS_URL: all replicas must sign alike")
    assets = values.get("assets")
    if not assets:
        problems.append("IGW_ASSETS is needed with REDIS_URL: all replicas must see the same images")
    elif "://" not in assets and not values.get("assets_shared"):
        problems.append(
            f"IGW_ASSETS is the folder {assets}: say IGW_ASSETS_SHARED=yes if all replicas see the same one"
        )
    return problems


def load_signing_secrets(settings: Settings) -> tuple[bytes, ...]:
    """Those that were set, or one that is made once and kept beside the data. SettingsError if it cannot be had."""
    if settings.secrets:
        return settings.secrets
    path = settings.data / "secret"
    try:
        if not path.exists():
            _create_secret_file(path)
        secret = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: no secret can be kept there ({error.strerror}): set IGW_SECRET") from error
    if len(secret.strip()) < MIN_SECRET_LENGTH:
        raise SettingsError(
            f"{path} holds no secret of at least {MIN_SECRET_LENGTH} characters: put back the one that was there, or delete "
            "it (a new one is made; links given out before end)"
        )
    return (secret,)


def _create_secret_file(path: Path) -> None:
    """Whole or not at all, whatever ends this process; of several processes one is first, and all take its secret."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Only its owner may read such a file.
    descriptor, temporary_name = tempfile.mkstemp(prefix=".secret-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_hex(SECRET_BYTES).encode())
            file.flush()
            os.fsync(file.fileno())
        # Unlike renaming, this does not take the place of what another process has put there.
        with suppress(FileExistsError):
            os.link(temporary_name, path)
        _sync_folder(path.parent)
    finally:
        os.unlink(temporary_name)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
