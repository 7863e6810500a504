"""Settings from the environment: defaults, validation and error messages."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.settings import ENV_OPTIONS, SettingsError, load_settings, load_signing_secrets

REPLICA_ENVIRON = {"REDIS_URL": "redis://cache", "IGW_SECRET": "s" * 16, "IGW_ASSETS": "s3://images"}


def load_and_get_error(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as error_info:
        load_settings(environ)
    return str(error_info.value)


def test_defaults_need_no_environment() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port, settings.data, settings.redis_url) == ("127.0.0.1", 8080, Path("var"), None)
    assert load_settings(dict.fromkeys((option.name for option in ENV_OPTIONS.values()), "")) == settings


def test_command_line_outranks_environment() -> None:
    assert load_settings({"IGW_PORT": "1", "IGW_LOG": "console"}, port=2, log_format=None).port == 2
    assert load_settings({"IGW_PORT": "nonsense"}, port=2).port == 2


@pytest.mark.parametrize(
    ("name", "text", "expected_text"),
    [
        ("IGW_PORT", "65536", "must be a port"),
        ("IGW_PORT", "-1", "must be a port"),
        ("IGW_PORT", "²", "must be a port"),
        ("IGW_PORT", "٨٠", "must be a port"),
        ("IGW_PORT", "9" * 5_000, "must be a port"),
        ("IGW_DRAIN_SECONDS", "nan", "must be seconds"),
        ("IGW_DRAIN_SECONDS", "soon", "must be seconds"),
        ("IGW_PUBLIC_URL", "images.example.com", "must be a URL"),
        ("IGW_PUBLIC_URL", "https://user:pass@example.com", "must be a URL"),
        ("IGW_PUBLIC_URL", "http://", "must be a URL"),
        ("IGW_PUBLIC_URL", "https:///images", "must be a URL"),
        ("IGW_PUBLIC_URL", "https://:8080", "must be a URL"),
        ("IGW_PUBLIC_URL", "https://example.com:99999", "must be a URL"),
        ("IGW_PUBLIC_URL", "https://[::1", "must be a URL"),
        ("IGW_PUBLIC_URL", "https://example.com/?team=a", "must be a URL"),
        ("IGW_PUBLIC_URL", "https://example.com /", "must be a URL"),
        ("REDIS_URL", "cache:6379", "must begin with redis://"),
        ("IGW_SECRET", "short", "at least 16 characters"),
        ("IGW_SECRET", f"{'s' * 16},short", "at least 16 characters"),
        ("IGW_ASSETS_SHARED", "maybe", "must be yes or no"),
        ("IGW_LOG", "xml", "must be json or console"),
        ("IGW_LOG_LEVEL", "warning", "must be info or debug"),
    ],
)
def test_invalid_option_is_named_without_its_secret(name: str, text: str, expected_text: str) -> None:
    message = load_and_get_error({name: text}).splitlines()[0]
    assert message.startswith(name)
    assert expected_text in message
    assert "short" not in message, "the message repeats a secret"


@pytest.mark.parametrize("text", ["http://[::1]:8080", "https://images.example.com/gateway/", "http://10.0.0.1"])
def test_base_url_may_have_port_and_path(text: str) -> None:
    assert load_settings({"IGW_PUBLIC_URL": text}).public_url == text.rstrip("/")


def test_all_problems_are_reported_at_once() -> None:
    assert len(load_and_get_error({"IGW_PORT": "x", "IGW_LOG": "x", "REDIS_URL": "redis://cache"}).splitlines()) == 4


def test_replicas_need_same_secret_and_shared_storage() -> None:
    assert load_settings(REPLICA_ENVIRON).redis_url == "redis://cache"
    assert "IGW_SECRET" in load_and_get_error({**REPLICA_ENVIRON, "IGW_SECRET": ""})
    assert "IGW_ASSETS is required" in load_and_get_error({**REPLICA_ENVIRON, "IGW_ASSETS": ""})
    assert "IGW_ASSETS_SHARED=yes" in load_and_get_error({**REPLICA_ENVIRON, "IGW_ASSETS": "/srv/images"})
    assert load_settings({**REPLICA_ENVIRON, "IGW_ASSETS": "/srv/images", "IGW_ASSETS_SHARED": "yes"}).assets_shared


def test_secret_is_created_once_and_private(tmp_path: Path) -> None:
    settings = load_settings({}, data=tmp_path / "data")
    (secret,) = load_signing_secrets(settings)
    assert len(secret) == 64
    assert load_signing_secrets(settings) == (secret,)
    assert stat.S_IMODE((tmp_path / "data" / "secret").stat().st_mode) == 0o600
    with_two_secrets = load_settings({"IGW_SECRET": f"{'n' * 16}, {'o' * 16}"}, data=tmp_path / "other")
    assert load_signing_secrets(with_two_secrets) == (b"n" * 16, b"o" * 16)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("content", [b"", b"short", b"\n" * 64])
def test_file_without_secret_is_rejected_and_left_unchanged(tmp_path: Path, content: bytes) -> None:
    """A crash may leave an empty or short file; signatures with such a secret could be forged."""
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SettingsError, match="contains no secret of at least 16 characters"):
        load_signing_secrets(load_settings({}, data=tmp_path))
    assert (tmp_path / "secret").read_bytes() == content


def test_crash_while_writing_secret_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings({}, data=tmp_path)

    def crash(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(KeyboardInterrupt):
            load_signing_secrets(settings)
    assert not (tmp_path / "secret").exists()
    assert len(load_signing_secrets(settings)[0]) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_concurrent_starts_agree_on_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        for number in range(20):
            settings = load_settings({}, data=tmp_path / str(number))
            secrets = {future.result() for future in [threads.submit(load_signing_secrets, settings) for _ in range(8)]}
            assert len(secrets) == 1


def test_unusable_secret_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    with pytest.raises(
        SettingsError, match=r"data/secret: the generated secret cannot be stored \(.+\)\. Set IGW_SECRET"
    ):
        load_signing_secrets(load_settings({}, data=tmp_path / "data"))
