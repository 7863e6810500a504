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


INVALID_OPTIONS = {
    ("IGW_PORT", "must be a port"): ["65536", "-1", "²", "٨٠", "9" * 5_000],
    ("IGW_DRAIN_SECONDS", "must be seconds"): ["nan", "soon"],
    ("IGW_PUBLIC_URL", "must be a URL"): [
        "images.example.com",
        "https://user:pass@example.com",
        "http://",
        "https:///images",
        "https://:8080",
        "https://example.com:99999",
        "https://[::1",
        "https://example.com/?team=a",
        "https://example.com /",
    ],
    ("IGW_CALLBACK_URL", "must be a URL"): ["images.example.com", "https://user:pass@example.com"],
    ("REDIS_URL", "must begin with redis://"): ["cache:6379"],
    ("IGW_SECRET", "at least 16 characters"): ["short", f"{'s' * 16},short"],
    ("IGW_ASSETS_SHARED", "must be yes or no"): ["maybe"],
    ("IGW_LOG", "must be json or console"): ["xml"],
    ("IGW_LOG_LEVEL", "must be info or debug"): ["warning"],
}


@pytest.mark.parametrize(
    ("name", "expected_text", "text"), [(*option, text) for option, texts in INVALID_OPTIONS.items() for text in texts]
)
def test_invalid_option_is_named_without_its_secret(name: str, expected_text: str, text: str) -> None:
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
