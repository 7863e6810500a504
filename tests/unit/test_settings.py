"""What the environment may say, and what is said of it when it is wrong."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.settings import OPTIONS, SettingsError, secret_of, settings_from

REPLICAS = {"REDIS_URL": "redis://cache", "IGW_SECRET": "s" * 16, "IGW_ASSETS": "s3://pictures"}


def problem(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as found:
        settings_from(environ)
    return str(found.value)


def test_nothing_need_be_said() -> None:
    found = settings_from({})
    assert (found.host, found.port, found.data, found.redis_url) == ("127.0.0.1", 8080, Path("var"), None)
    assert settings_from(dict.fromkeys((one.name for one in OPTIONS.values()), "")) == found


def test_the_command_line_outranks_the_environment() -> None:
    assert settings_from({"IGW_PORT": "1", "IGW_LOG": "console"}, port=2, log_format=None).port == 2
    assert settings_from({"IGW_PORT": "nonsense"}, port=2).port == 2


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("IGW_PORT", "65536", "must be a port"),
        ("IGW_PORT", "-1", "must be a port"),
        ("IGW_PORT", "²", "must be a port"),
        ("IGW_PORT", "٨٠", "must be a port"),
        ("IGW_PORT", "9" * 5_000, "must be a port"),
        ("IGW_DRAIN_SECONDS", "nan", "must be seconds"),
        ("IGW_DRAIN_SECONDS", "soon", "must be seconds"),
        ("IGW_PUBLIC_URL", "images.example.com", "must be an address"),
        ("IGW_PUBLIC_URL", "https://user:pass@example.com", "must be an address"),
        ("IGW_PUBLIC_URL", "http://", "must be an address"),
        ("IGW_PUBLIC_URL", "https:///images", "must be an address"),
        ("IGW_PUBLIC_URL", "https://:8080", "must be an address"),
        ("IGW_PUBLIC_URL", "https://example.com:99999", "must be an address"),
        ("IGW_PUBLIC_URL", "https://[::1", "must be an address"),
        ("IGW_PUBLIC_URL", "https://example.com/?team=a", "must be an address"),
        ("IGW_PUBLIC_URL", "https://example.com /", "must be an address"),
        ("REDIS_URL", "cache:6379", "must begin with redis://"),
        ("IGW_SECRET", "short", "at least 16 characters"),
        ("IGW_SECRET", f"{'s' * 16},short", "at least 16 characters"),
        ("IGW_ASSETS_SHARED", "maybe", "must be yes or no"),
        ("IGW_LOG", "xml", "must be json or console"),
    ],
)
def test_what_is_wrong_is_named(name: str, text: str, words: str) -> None:
    said = problem({name: text}).splitlines()[0]
    assert said.startswith(name)
    assert words in said
    assert "short" not in said, "a secret is never repeated"


@pytest.mark.parametrize("text", ["http://[::1]:8080", "https://images.example.com/gateway/", "http://10.0.0.1"])
def test_an_address_may_have_a_port_and_a_path(text: str) -> None:
    assert settings_from({"IGW_PUBLIC_URL": text}).public_url == text.rstrip("/")


def test_everything_that_is_wrong_is_said_at_once() -> None:
    assert len(problem({"IGW_PORT": "x", "IGW_LOG": "x", "REDIS_URL": "redis://cache"}).splitlines()) == 4


def test_replicas_must_sign_alike_and_see_the_same_images() -> None:
    assert settings_from(REPLICAS).redis_url == "redis://cache"
    assert "IGW_SECRET" in problem({**REPLICAS, "IGW_SECRET": ""})
    assert "IGW_ASSETS is needed" in problem({**REPLICAS, "IGW_ASSETS": ""})
    assert "IGW_ASSETS_SHARED=yes" in problem({**REPLICAS, "IGW_ASSETS": "/srv/images"})
    assert settings_from({**REPLICAS, "IGW_ASSETS": "/srv/images", "IGW_ASSETS_SHARED": "yes"}).assets_shared


def test_a_secret_is_made_once_and_only_we_can_read_it(tmp_path: Path) -> None:
    settings = settings_from({}, data=tmp_path / "data")
    (made,) = secret_of(settings)
    assert len(made) == 64
    assert secret_of(settings) == (made,)
    assert stat.S_IMODE((tmp_path / "data" / "secret").stat().st_mode) == 0o600
    given = settings_from({"IGW_SECRET": f"{'n' * 16}, {'o' * 16}"}, data=tmp_path / "other")
    assert secret_of(given) == (b"n" * 16, b"o" * 16)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("content", [b"", b"short", b"\n" * 64])
def test_a_file_without_a_secret_in_it_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    """What a crash may have left must not sign anything: anybody could sign with it."""
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SettingsError, match="holds no secret of at least 16 characters"):
        secret_of(settings_from({}, data=tmp_path))
    assert (tmp_path / "secret").read_bytes() == content


def test_a_crash_while_the_secret_is_written_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_from({}, data=tmp_path)

    def crash(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(KeyboardInterrupt):
            secret_of(settings)
    assert not (tmp_path / "secret").exists()
    assert len(secret_of(settings)[0]) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_those_who_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        for number in range(20):
            settings = settings_from({}, data=tmp_path / str(number))
            found = {future.result() for future in [threads.submit(secret_of, settings) for _ in range(8)]}
            assert len(found) == 1


def test_a_folder_that_keeps_no_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    with pytest.raises(SettingsError, match=r"data/secret: no secret can be kept there \(.+\): set IGW_SECRET"):
        secret_of(settings_from({}, data=tmp_path / "data"))
