"""What accounts.yaml says of an account's limits reaches the account that orders are sent to."""

from pathlib import Path

import pytest

from gateway.config.blocks import AccountLimits
from tests.unit.config.base import FILES, write
from tests.unit.config.test_broken import told
from tests.unit.config.test_secrets import resolved


def with_limits(folder: Path, limits: str) -> Path:
    return write(folder, FILES | {"accounts.yaml": FILES["accounts.yaml"] + f"    limits: {limits}\n"})


def limits_in(folder: Path, account: str = "runapi") -> AccountLimits:
    catalogue = resolved(folder).catalogue
    assert catalogue is not None
    return catalogue.accounts[account].limits


def test_an_account_has_no_limits_unless_it_is_given_some(tmp_path: Path) -> None:
    assert limits_in(write(tmp_path)) == AccountLimits(concurrency=None, per_minute=None)


def test_an_account_has_the_limits_that_it_is_given_and_no_other_account_has_them(tmp_path: Path) -> None:
    folder = with_limits(tmp_path, "{concurrency: 4, per_minute: 90}")
    assert limits_in(folder) == AccountLimits(concurrency=4, per_minute=90)
    assert limits_in(folder, "runflow") == AccountLimits()


def test_one_limit_goes_without_the_other(tmp_path: Path) -> None:
    assert limits_in(with_limits(tmp_path, "{per_minute: 1}")) == AccountLimits(per_minute=1)
    assert limits_in(with_limits(tmp_path, "{concurrency: 10000, per_minute: null}")) == AccountLimits(
        concurrency=10_000
    )


@pytest.mark.parametrize("limits", ["{concurrency: 0}", "{per_minute: 10001}", "{concurrency: 2.5}", "{at_once: 3}"])
def test_what_is_no_limit_is_refused_at_its_line(tmp_path: Path, limits: str) -> None:
    (problem,) = told(with_limits(tmp_path, limits))
    assert problem.startswith("accounts.yaml:9: accounts.runapi.limits")
