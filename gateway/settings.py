"""Settings from environment variables, in one table that `image-gateway serve --help` and the README show."""

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
REDIS_SCHEMES = (
    *("redis://", "rediss://", "redis+sentinel://", "rediss+sentinel://", "redis+cluster://", "rediss+cluster://"),
    "unix://",
)


class SettingsError(ValueError):
    """All invalid settings, one per line, for operators."""


class Settings(Struct, frozen=True, kw_only=True):
    config: Path
    host: str
    port: int
    data: Path
    redis_url: str | None
    secrets: tuple[bytes, ...]
    public_url: str | None
    callback_url: str | None
    assets: str | None
    assets_shared: bool
    drain_seconds: float
    log_format: str
    log_level: str

    @property
    def database(self) -> Path:
        """The file of SQLite."""
        return self.data / "gateway.db"


class EnvOption(Struct, frozen=True):
    """One environment variable: its default, its parser and its help text."""

    name: str
    default: str | None
    parse: Callable[[str], Any]
    help: str


def _parse_port(text: str) -> int:
    # isdigit also accepts other scripts' digits.
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
        raise ValueError("must be a URL like https://images.example.com")
    return text.rstrip("/")


def _is_base_url(text: str) -> bool:
    """Returns whether paths can be appended to the URL: it has no query, fragment or credentials."""
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return has_host and text.startswith(("http://", "https://")) and not re.search(r"[@?#\s]", text)


def _parse_redis_url(text: str) -> str:
    if not text.startswith(REDIS_SCHEMES):
        raise ValueError(f"must begin with {', '.join(REDIS_SCHEMES[:-1])} or {REDIS_SCHEMES[-1]}")
    return text


def _parse_secrets(text: str) -> tuple[bytes, ...]:
    values = tuple(secret.strip().encode() for secret in text.split(",") if secret.strip())
    if not values or any(len(secret) < MIN_SECRET_LENGTH for secret in values):
        raise ValueError(
            f"must be a secret of at least {MIN_SECRET_LENGTH} characters, or two separated by a comma during rotation"
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


def _parse_log_level(text: str) -> str:
    if text not in ("info", "debug"):
        raise ValueError("must be info or debug")
    return text


ENV_OPTIONS: dict[str, EnvOption] = {
    "config": EnvOption("IGW_CONFIG", None, Path, "configuration folder; default: config, or the shipped one"),
    "host": EnvOption("IGW_HOST", "127.0.0.1", str, "address to listen on"),
    "port": EnvOption("IGW_PORT", "8080", _parse_port, "port to listen on"),
    "data": EnvOption(
        "IGW_DATA", "var", Path, "folder for SQLite, the generated secret and, without IGW_ASSETS, images"
    ),
    "redis_url": EnvOption(
        "REDIS_URL", None, _parse_redis_url, "Redis, needed for several replicas; without it SQLite"
    ),
    "secrets": EnvOption(
        "IGW_SECRET",
        None,
        _parse_secrets,
        "signs image and callback URLs and digests of API keys; required with Redis, else generated",
    ),
    "public_url": EnvOption(
        "IGW_PUBLIC_URL", None, _parse_base_url, "URL at which clients and sellers reach this gateway"
    ),
    "callback_url": EnvOption(
        "IGW_CALLBACK_URL", None, _parse_base_url, "URL at which sellers reach this gateway, if not at IGW_PUBLIC_URL"
    ),
    "assets": EnvOption("IGW_ASSETS", None, str, "image storage: a folder, s3://, gs:// or az://"),
    "assets_shared": EnvOption(
        "IGW_ASSETS_SHARED", "no", _parse_flag, "yes if all replicas share the folder in IGW_ASSETS"
    ),
    "drain_seconds": EnvOption(
        "IGW_DRAIN_SECONDS", "130", _parse_seconds, "how long running jobs may take to finish after SIGTERM"
    ),
    "log_format": EnvOption("IGW_LOG", "json", _parse_log_format, "json, or console for people"),
    "log_level": EnvOption(
        "IGW_LOG_LEVEL", "info", _parse_log_level, "info, or debug for a log line about each step of a job"
    ),
}


def load_settings(environ: Mapping[str, str], **overrides: object) -> Settings:
    """Loads the settings. `overrides` from the command line take precedence. Raises a SettingsError that lists all
    problems."""
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
    """Checks settings that several replicas need. Called whenever Redis is used."""
    problems = []
    if not values["secrets"]:
        problems.append("IGW_SECRET is required with REDIS_URL: all replicas must sign with the same secret")
    assets = values.get("assets")
    if not assets:
        problems.append("IGW_ASSETS is required with REDIS_URL: all replicas must use the same image storage")
    elif "://" not in assets and not values.get("assets_shared"):
        problems.append(f"IGW_ASSETS is the folder {assets}: set IGW_ASSETS_SHARED=yes if all replicas share it")
    return problems


def load_signing_secrets(settings: Settings) -> tuple[bytes, ...]:
    """Returns the configured secrets, or a secret that is generated once and stored in the data folder.

    Raises SettingsError if the secret cannot be stored or read.
    """
    if settings.secrets:
        return settings.secrets
    path = settings.data / "secret"
    try:
        if not path.exists():
            _create_secret_file(path)
        secret = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{path}: the generated secret cannot be stored ({error.strerror}). Set IGW_SECRET."
        ) from error
    if len(secret.strip()) < MIN_SECRET_LENGTH:
        raise SettingsError(
            f"{path} contains no secret of at least {MIN_SECRET_LENGTH} characters. Restore the file, or delete it to "
            "generate a new secret (existing image URLs, and API keys of the store, become invalid)."
        )
    return (secret,)


def _create_secret_file(path: Path) -> None:
    """Creates the file atomically. Concurrent processes all use the secret of the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes the file readable by its owner only.
    descriptor, temporary_name = tempfile.mkstemp(prefix=".secret-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_hex(SECRET_BYTES).encode())
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link never replaces the file of another process.
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
