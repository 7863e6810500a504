"""Regions of accounts, and the policies and teams that are limited to them."""

from pathlib import Path

import pytest

from tests.unit.config.sample_config import SAMPLE_FILES, list_problems, write_config

EUROPEAN_ACCOUNT = SAMPLE_FILES["accounts.yaml"].replace(
    "    key: env:RUNAPI_KEY", "    key: env:RUNAPI_KEY\n    region: eu"
)


def list_problems_with(folder: Path, file: str, old: str, new: str) -> list[str]:
    changed = {**SAMPLE_FILES, "accounts.yaml": EUROPEAN_ACCOUNT, file: SAMPLE_FILES[file].replace(old, new)}
    return list_problems(write_config(folder, changed))


@pytest.mark.parametrize("region", ["eu", "[eu]"])
def test_policy_and_team_are_limited_to_regions(region: str, tmp_path: Path) -> None:
    problems = list_problems_with(tmp_path, "teams.yaml", 'max_cost: "5.00"', f"regions: {region}")
    assert problems == (
        [] if region == "[eu]" else ["teams.yaml:4: teams.design.regions: Invalid value. Write a list, like [a, b]"]
    )


def test_misspelled_region_is_a_problem(tmp_path: Path) -> None:
    assert list_problems_with(tmp_path, "teams.yaml", 'max_cost: "5.00"', "regions: [eu, ue]") == [
        "teams.yaml:4: teams.design.regions[1]: Unknown region 'ue'; known: eu"
    ]


def test_policy_without_any_seller_in_its_region_is_a_problem(tmp_path: Path) -> None:
    [problem] = list_problems_with(
        tmp_path, "policies.yaml", "sellers: [by-shape, by-pixel]", "sellers: [by-pixel]\n    regions: [eu]"
    )
    names = "'sellers', 'weights', 'only', 'ignore' and 'regions'"
    assert problem == f"policies.yaml:5: policies.steady: {names} together exclude all sellers"
