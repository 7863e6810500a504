"""Secrets come from the environment or from files of their own, and never appear in output."""

import json
import os
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.config.catalogue_builder import NO_API_KEY, resolve_files, secrets_from_env
from gateway.config.loader import load
from gateway.config.redaction import looks_like_secret, redact
from gateway.config.value_types import UNSENDABLE, Secret, SecretRef
from gateway.routing.plan import RoutingQuery, make_plan
from gateway.routing.routing_request import RoutingRequest
from providers import ADAPTERS
from providers.orders import Format, Operation
from tests.harness.image_model import target_from_pixels
from tests.unit.config.sample_config import SAMPLE_ENVIRON, SAMPLE_FILES, resolve_config, write_config

CANARY = "sk-live-4f9a8c7b6d5e4f3a2b1c0d9e"


def reveal_key(folder: Path, environ: dict[str, str], account: str = "runapi") -> str | None:
    catalogue = resolve_config(folder, environ).catalogue
    assert catalogue is not None
    secret = catalogue.accounts[account].api_key
    return secret.reveal() if secret else None


def write_with_key(folder: Path, reference: str) -> Path:
    files = SAMPLE_FILES | {"accounts.yaml": SAMPLE_FILES["accounts.yaml"].replace("env:RUNAPI_KEY", reference)}
    return write_config(folder, files)


def test_secret_from_environment_is_stripped(tmp_path: Path) -> None:
    assert reveal_key(write_config(tmp_path), SAMPLE_ENVIRON | {"RUNAPI_KEY": " abc def\n"}) == "abc def"


def test_secret_from_file_loses_last_line_end(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"abc\r\n")
    assert reveal_key(write_with_key(tmp_path / "config", f"file:{file}"), SAMPLE_ENVIRON) == "abc"


@pytest.mark.parametrize("environ", [{}, {"RUNAPI_KEY": ""}, {"RUNAPI_KEY": " \n"}], ids=["none", "empty", "blank"])
def test_account_without_key_is_disabled_with_warning(environ: dict[str, str], tmp_path: Path) -> None:
    config = resolve_config(write_config(tmp_path), {"RUNFLOW_KEY": "abc"} | environ)
    assert [str(warning).removeprefix(f"{tmp_path}/") for warning in config.warnings] == [
        "accounts.yaml:7: accounts.runapi.key: env:RUNAPI_KEY not found: the account is disabled"
    ]
    assert config.catalogue is not None
    request = RoutingRequest(
        operation=Operation.GENERATE,
        model="image-2",
        n=1,
        target=target_from_pixels(1024, 1024),
        quality="high",
        output_format=Format.PNG,
    )
    plan_result = make_plan(config.catalogue, RoutingQuery(request=request), {})
    assert [entry.fit.offer.seller.name for entry in plan_result.ranked] == ["by-pixel"]
    assert [(entry.seller, entry.reasons) for entry in plan_result.excluded] == [
        ("by-shape", ("account runapi has no API key",))
    ]


BAD_FILES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "not found"),
    "empty": (b"", "is empty"),
    "not text": (b"\xff\xfe", "is not UTF-8"),
    "too large": (b"a" * 65_537, "is larger than 65,536 bytes"),
}


@pytest.mark.parametrize(("data", "reason"), BAD_FILES.values(), ids=BAD_FILES)
def test_file_without_secret_counts_as_missing(data: bytes | None, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    if data is not None:
        file.write_bytes(data)
    folder = write_with_key(tmp_path / "config", f"file:{file}")
    assert reveal_key(folder, SAMPLE_ENVIRON) is None
    assert [warning.message for warning in resolve_config(folder).warnings] == [
        f"file:{file} {reason}: the account is disabled"
    ]


@pytest.mark.parametrize("key", [f"{CANARY}\nsecond line", f"{CANARY}\x00", f"{CANARY}é", f"\ufeff{CANARY}"])
def test_key_that_no_header_can_carry_disables_its_account(key: str, tmp_path: Path) -> None:
    config = resolve_config(write_config(tmp_path), SAMPLE_ENVIRON | {"RUNAPI_KEY": key})
    assert config.catalogue is not None
    assert config.catalogue.accounts["runapi"].api_key is None
    assert [warning.message for warning in config.warnings] == [f"env:RUNAPI_KEY {UNSENDABLE}: the account is disabled"]


def test_team_key_that_no_header_can_carry_is_a_warning(tmp_path: Path) -> None:
    files = SAMPLE_FILES | {"teams.yaml": f"{SAMPLE_FILES['teams.yaml']}    keys: [env:TEAM_KEY]\n"}
    config = resolve_config(write_config(tmp_path, files), SAMPLE_ENVIRON | {"TEAM_KEY": "one\ntwo"})
    assert config.catalogue is not None
    assert config.catalogue.configured_keys == {}
    assert [warning.message for warning in config.warnings] == [
        f"env:TEAM_KEY {UNSENDABLE}: no request can have this key"
    ]


def test_largest_secret_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"a" * 65_536)
    assert SecretRef(f"file:{file}").resolve({}) == Secret("a" * 65_536)


def test_non_regular_secret_file_counts_as_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null", "/dev/zero"):
        assert SecretRef(f"file:{path}").resolve({}) is None
        assert SecretRef(f"file:{path}").describe_absence() == "is not a regular file"


def test_without_any_key_configuration_is_rejected(tmp_path: Path) -> None:
    config = resolve_config(write_config(tmp_path), {})
    assert config.catalogue is None
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in config.problems] == [
        f"accounts.yaml:1: accounts: {NO_API_KEY}"
    ]
    assert len(config.warnings) == 2


def test_missing_callback_secret_is_warning_and_others_are_kept(tmp_path: Path) -> None:
    text = SAMPLE_FILES["accounts.yaml"] + "    callback_secrets: [env:OLD, env:NEW]\n"
    config = resolve_config(
        write_config(tmp_path, SAMPLE_FILES | {"accounts.yaml": text}), SAMPLE_ENVIRON | {"NEW": "abc"}
    )
    assert config.catalogue is not None
    assert config.catalogue.accounts["runapi"].callback_secrets == (Secret("abc"),)
    assert [str(warning).removeprefix(f"{tmp_path}/") for warning in config.warnings] == [
        "accounts.yaml:9: accounts.runapi.callback_secrets[0]: env:OLD not found: callbacks signed with it are rejected"
    ]


def test_resolved_secret_is_never_printed_or_serialized(tmp_path: Path) -> None:
    config = resolve_config(write_config(tmp_path), {"RUNFLOW_KEY": CANARY, "RUNAPI_KEY": CANARY})
    assert config.catalogue is not None
    account = config.catalogue.accounts["runapi"]
    assert account.api_key is not None
    assert account.api_key.reveal() == CANARY
    printed = [
        repr(config),
        str(config),
        repr(account),
        str(account.api_key),
        f"{account.api_key}",
        f"{account.api_key!r}",
    ]
    assert not [text for text in printed if CANARY in text]
    with pytest.raises(TypeError):
        msgspec.json.encode(account)
    with pytest.raises(TypeError):
        json.dumps(account.api_key)


def list_canary_lines() -> list[tuple[str, int, str]]:
    """Yields variants of every line with the canary as its value, within the value, and as its name."""
    lines = []
    for name, text in SAMPLE_FILES.items():
        for number, line in enumerate(text.splitlines()):
            key, _, value = line.partition(":")
            indent = line[: len(line) - len(line.lstrip(" -"))]
            lines.append((name, number, f"{key}: {CANARY}"))
            lines.append((name, number, f"{indent}{CANARY}:{value}"))
            lines.append((name, number, f"{line} {CANARY}"))
            lines.append((name, number, f"{key}: !{CANARY} x"))
            replaced_words = [word for word in ("cheapest", "runapi", "image-1,", "4k") if "://" not in line]
            lines += [(name, number, line.replace(word, CANARY)) for word in replaced_words]
    return lines


def test_inline_secret_is_rejected_and_never_printed(tmp_path: Path) -> None:
    for name, number, line in list_canary_lines()[::3]:
        lines = SAMPLE_FILES[name].splitlines()
        if line == lines[number]:
            continue
        lines[number] = line
        write_config(tmp_path, SAMPLE_FILES | {name: "\n".join(lines)})
        loaded = load(tmp_path)
        config = resolve_files(loaded, secrets_from_env(SAMPLE_ENVIRON), ADAPTERS)
        assert config.catalogue is None, f"{name}:{number + 1} holds a literal secret and is taken: {line}"
        assert CANARY not in repr(config)
        assert CANARY not in "".join(map(str, config.problems))
        assert CANARY not in repr(loaded.problems) + repr(loaded.nodes)


@pytest.mark.parametrize("command", [["check"], ["explain"], ["explain", "--json"]], ids=" ".join)
def test_commands_never_print_secrets(command: list[str], tmp_path: Path) -> None:
    environ = {"RUNFLOW_KEY": CANARY, "RUNAPI_KEY": CANARY, "IGW_CONFIG": str(write_config(tmp_path))}
    valid_result = CliRunner().invoke(main, command, env=environ)
    assert valid_result.exit_code == 0, valid_result.output
    assert CANARY not in valid_result.output
    for replaced_text in ("env:RUNAPI_KEY", "RUNAPI_KEY", "https://runapi.example", "trusted"):
        for secret in (CANARY, "hunter-two"):
            write_config(
                tmp_path, SAMPLE_FILES | {"accounts.yaml": SAMPLE_FILES["accounts.yaml"].replace(replaced_text, secret)}
            )
            invalid_result = CliRunner().invoke(main, command, env=environ)
            assert invalid_result.exit_code == 1
            assert secret not in invalid_result.output
            assert "accounts.yaml:" in invalid_result.output


SECRET_LIKE_TEXTS = (
    CANARY,
    "sk-proj-AbCdEfGhIj0123456789KlMnOp",
    "rf_live_a8f5f167f44f4964e6c998dee827110c",
    "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "Bearer a8f5f167f44f4964e6c998dee827110c",
    "env:sk_live_51HabcdefGHIJKL0123456789xyz",
    "env:AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI7K/MDENG/bPxRfiCYzEXAMPLEKEY1",
    "wJalrXUtnFE/I7K/MDENG/bPx+RfiCYzEXAM/LEKEY1=",
    "sk_liveAbCdEfGhIjKlMnOpQrStUvWxYzAbCdEf",
    "sk-proj-hunter-two",
    "rfk_hunter",
    "https://me:sk-proj-hunter-two@example.com/",
)
ORDINARY_TEXTS = (
    "gpt-image-2-2026-04-21",
    "env:RUNFLOW_API_KEY_FOR_EUROPE_WEST_1",
    "file:/run/secrets/runapi/3f2504e04f8941d39a0c0305e82c3301",
    "https://example.com/pages/3f2504e04f8941d39a0c0305e82c3301",
    'www.runflow.io/models/openai/gpt-image-2, "per image (low)"',
    "the synchronous route is documented only on generated pages, and no use of it is known",
    "marketing-and-friends-team-1, offers_without_any_failover",
    "vendor/desk-lamps/flux-pro/v1.1/edit2",
    "blackforestlabs/flux1schnell",
    "env:RF_KEY_2",
    "env:SK_KEY_OF_THE_LABS",
)


@pytest.mark.parametrize("text", SECRET_LIKE_TEXTS)
def test_text_that_looks_like_secret_is_redacted(text: str) -> None:
    assert looks_like_secret(text)
    assert text.split()[-1] not in redact(f"unknown '{text}' here")


@pytest.mark.parametrize("text", ORDINARY_TEXTS)
def test_ordinary_text_is_not_redacted(text: str) -> None:
    assert not looks_like_secret(text)
    assert redact(text) == text
