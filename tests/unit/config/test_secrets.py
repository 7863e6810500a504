"""Secrets stand in the environment or in files of their own, and are shown nowhere."""

import json
import os
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.config.hiding import looks_secret, shown
from gateway.config.loading import load
from gateway.config.resolving import NO_KEYS, Resolved, resolve, secrets_in
from gateway.config.values import Secret, SecretRef
from gateway.routing.plan import Question, plan
from providers import ADAPTERS
from providers.orders import Format, ImageRequest, Operation, Quality
from providers.sizes import target_of_pixels
from tests.unit.config.base import FILES, KEYS, write

CANARY = "sk-live-4f9a8c7b6d5e4f3a2b1c0d9e"


def resolved(folder: Path, environ: dict[str, str] = KEYS) -> Resolved:
    return resolve(load(folder), secrets_in(environ), ADAPTERS)


def revealed(folder: Path, environ: dict[str, str], account: str = "runapi") -> str | None:
    catalogue = resolved(folder, environ).catalogue
    assert catalogue is not None
    secret = catalogue.accounts[account].secret
    return secret.reveal() if secret else None


def with_key(folder: Path, reference: str) -> Path:
    files = FILES | {"accounts.yaml": FILES["accounts.yaml"].replace("env:RUNAPI_KEY", reference)}
    return write(folder, files)


def test_a_secret_comes_from_the_environment_without_the_space_around_it(tmp_path: Path) -> None:
    assert revealed(write(tmp_path), KEYS | {"RUNAPI_KEY": " abc def\n"}) == "abc def"


def test_a_secret_comes_from_a_file_without_its_last_line_end(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"abc\r\n")
    assert revealed(with_key(tmp_path / "config", f"file:{file}"), KEYS) == "abc"


@pytest.mark.parametrize("environ", [{}, {"RUNAPI_KEY": ""}, {"RUNAPI_KEY": " \n"}], ids=["none", "empty", "blank"])
def test_without_its_key_an_account_is_left_out_with_a_warning_and_a_reason(
    environ: dict[str, str], tmp_path: Path
) -> None:
    found = resolved(write(tmp_path), {"RUNFLOW_KEY": "abc"} | environ)
    assert [str(warning).removeprefix(f"{tmp_path}/") for warning in found.warnings] == [
        "accounts.yaml:7: accounts.runapi.key: env:RUNAPI_KEY is not there: the account is left out"
    ]
    assert found.catalogue is not None
    request = ImageRequest(
        operation=Operation.GENERATE,
        model="picture-2",
        prompt="",
        n=1,
        target=target_of_pixels(1024, 1024),
        quality=Quality.HIGH,
        output_format=Format.PNG,
    )
    made = plan(found.catalogue, Question(request=request), {})
    assert [one.fit.offer.seller.name for one in made.ranked] == ["by-pixel"]
    assert [(one.seller, one.reasons) for one in made.excluded] == [("by-shape", ("account runapi has no key",))]


BAD_FILES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "is not there"),
    "empty": (b"", "is empty"),
    "not text": (b"\xff\xfe", "is not UTF-8"),
    "too large": (b"a" * 65_537, "is larger than 65,536 bytes"),
}


@pytest.mark.parametrize(("data", "why"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_without_a_secret_counts_as_missing(data: bytes | None, why: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    if data is not None:
        file.write_bytes(data)
    folder = with_key(tmp_path / "config", f"file:{file}")
    assert revealed(folder, KEYS) is None
    assert [warning.message for warning in resolved(folder).warnings] == [f"file:{file} {why}: the account is left out"]


def test_the_largest_file_that_holds_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"a" * 65_536)
    assert SecretRef(f"file:{file}").resolve({}) == Secret("a" * 65_536)


def test_a_folder_a_pipe_or_a_device_instead_of_a_file_counts_as_missing_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null", "/dev/zero"):
        assert SecretRef(f"file:{path}").resolve({}) is None
        assert SecretRef(f"file:{path}").absence() == "is no regular file"


def test_without_any_key_nothing_starts(tmp_path: Path) -> None:
    found = resolved(write(tmp_path), {})
    assert found.catalogue is None
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in found.problems] == [
        f"accounts.yaml:1: accounts: {NO_KEYS}"
    ]
    assert len(found.warnings) == 2


def test_a_missing_callback_secret_is_a_warning_and_the_others_are_kept(tmp_path: Path) -> None:
    text = FILES["accounts.yaml"] + "    callback_secrets: [env:OLD, env:NEW]\n"
    found = resolved(write(tmp_path, FILES | {"accounts.yaml": text}), KEYS | {"NEW": "abc"})
    assert found.catalogue is not None
    assert found.catalogue.accounts["runapi"].callback_secrets == (Secret("abc"),)
    assert [str(warning).removeprefix(f"{tmp_path}/") for warning in found.warnings] == [
        "accounts.yaml:9: accounts.runapi.callback_secrets[0]: "
        "env:OLD is not there: callbacks signed with it are not believed"
    ]


def test_a_resolved_secret_shows_in_nothing_that_prints_or_serialises(tmp_path: Path) -> None:
    found = resolved(write(tmp_path), {"RUNFLOW_KEY": CANARY, "RUNAPI_KEY": CANARY})
    assert found.catalogue is not None
    account = found.catalogue.accounts["runapi"]
    assert account.secret is not None
    assert account.secret.reveal() == CANARY
    printed = [repr(found), str(found), repr(account), str(account.secret), f"{account.secret}", f"{account.secret!r}"]
    assert not [text for text in printed if CANARY in text]
    with pytest.raises(TypeError):
        msgspec.json.encode(account)
    with pytest.raises(TypeError):
        json.dumps(account.secret)


def canaries() -> list[tuple[str, int, str]]:
    """For every file and line, the line with the canary as its value, within it, and as its name."""
    made = []
    for name, text in FILES.items():
        for number, line in enumerate(text.splitlines()):
            key, _, value = line.partition(":")
            indent = line[: len(line) - len(line.lstrip(" -"))]
            made.append((name, number, f"{key}: {CANARY}"))
            made.append((name, number, f"{indent}{CANARY}:{value}"))
            made.append((name, number, f"{line} {CANARY}"))
            made.append((name, number, f"{key}: !{CANARY} x"))
            words = [word for word in ("cheapest", "runapi", "picture-1,", "4k") if "://" not in line]
            made += [(name, number, line.replace(word, CANARY)) for word in words]
    return made


def test_a_literal_secret_is_told_nowhere_wherever_it_stands(tmp_path: Path) -> None:
    for name, number, line in canaries()[::3]:
        lines = FILES[name].splitlines()
        if line == lines[number]:
            continue
        lines[number] = line
        write(tmp_path, FILES | {name: "\n".join(lines)})
        found = load(tmp_path)
        answer = resolve(found, secrets_in(KEYS), ADAPTERS)
        assert answer.catalogue is None, f"{name}:{number + 1} holds a literal secret and is taken: {line}"
        assert CANARY not in repr(answer)
        assert CANARY not in "".join(map(str, answer.problems))
        assert CANARY not in repr(found.problems) + repr(found.nodes)


@pytest.mark.parametrize("command", [["check"], ["explain"], ["explain", "--json"]], ids=" ".join)
def test_commands_tell_no_secret_whether_it_is_in_its_place_or_not(command: list[str], tmp_path: Path) -> None:
    environ = {"RUNFLOW_KEY": CANARY, "RUNAPI_KEY": CANARY, "IGW_CONFIG": str(write(tmp_path))}
    right = CliRunner().invoke(main, command, env=environ)
    assert right.exit_code == 0, right.output
    assert CANARY not in right.output
    for place in ("env:RUNAPI_KEY", "RUNAPI_KEY", "https://runapi.example", "trusted"):
        for secret in (CANARY, "hunter-two"):
            write(tmp_path, FILES | {"accounts.yaml": FILES["accounts.yaml"].replace(place, secret)})
            wrong = CliRunner().invoke(main, command, env=environ)
            assert wrong.exit_code == 1
            assert secret not in wrong.output
            assert "accounts.yaml:" in wrong.output


SECRETS = (
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
NO_SECRETS = (
    "gpt-image-2-2026-04-21",
    "env:RUNFLOW_API_KEY_FOR_EUROPE_WEST_1",
    "file:/run/secrets/runapi/3f2504e04f8941d39a0c0305e82c3301",
    "https://example.com/pages/3f2504e04f8941d39a0c0305e82c3301",
    'www.runflow.io/models/openai/gpt-image-2, "per image (low)"',
    "the synchronous route stands in generated pages only, and nobody is known to use it",
    "marketing-and-friends-team-1, offers_without_any_failover",
    "vendor/desk-lamps/flux-pro/v1.1/edit2",
    "blackforestlabs/flux1schnell",
    "env:RF_KEY_2",
    "env:SK_KEY_OF_THE_LABS",
)


@pytest.mark.parametrize("text", SECRETS)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    assert looks_secret(text)
    assert text.split()[-1] not in shown(f"there is no '{text}', is there")


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_operators_really_write_is_shown(text: str) -> None:
    assert not looks_secret(text)
    assert shown(text) == text
