"""Limits in accounts.yaml reach the resolved account."""

from pathlib import Path

import pytest

from gateway.config.schema import AccountLimits
from tests.unit.config.sample_config import SAMPLE_FILES, list_problems, resolve_config, write_config


def write_limits(folder: Path, limits: str) -> Path:
    return write_config(
        folder, SAMPLE_FILES | {"accounts.yaml": SAMPLE_FILES["accounts.yaml"] + f"    limits: {limits}\n"}
    )


def resolve_limits(folder: Path, account: str = "runapi") -> AccountLimits:
    catalogue = resolve_config(folder).catalogue
    assert catalogue is not None
    return catalogue.accounts[account].limits


def test_account_has_no_limits_by_default(tmp_path: Path) -> None:
    assert resolve_limits(write_config(tmp_path)) == AccountLimits(concurrency=None, per_minute=None)


def test_limits_apply_to_their_account_only(tmp_path: Path) -> None:
    folder = write_limits(tmp_path, "{concurrency: 4, per_minute: 90}")
    assert resolve_limits(folder) == AccountLimits(concurrency=4, per_minute=90)
    assert resolve_limits(folder, "runflow") == AccountLimits()


def test_limits_are_independent(tmp_path: Path) -> None:
    assert resolve_limits(write_limits(tmp_path, "{per_minute: 1}")) == AccountLimits(per_minute=1)
    assert resolve_limits(write_limits(tmp_path, "{concurrency: 10000, per_minute: null}")) == AccountLimits(
        concurrency=10_000
    )


@pytest.mark.parametrize("limits", ["{concurrency: 0}", "{per_minute: 10001}", "{concurrency: 2.5}", "{at_once: 3}"])
def test_invalid_limit_is_rejected_with_line(tmp_path: Path, limits: str) -> None:
    (problem,) = list_problems(write_limits(tmp_path, limits))
    assert problem.startswith("accounts.yaml:9: accounts.runapi.limits")
