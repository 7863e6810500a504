"""Rules that can never match are reported, and no others."""

from itertools import product
from pathlib import Path

import pytest

from tests.unit.config.sample_config import SAMPLE_FILES, list_problems, write_config

MODELS_FILE = SAMPLE_FILES["models.yaml"] + "  other: {max_images: 10}\n"


def list_rule_problems(rules: list[str], folder: Path) -> list[str]:
    lines = [f"  - {{when: {when}, use: split}}\n" for when in rules]
    head = SAMPLE_FILES["policies.yaml"].partition("rules:")[0]
    text = f"{head}rules:\n{''.join(lines)}default: cheapest\n"
    problems = list_problems(write_config(folder, SAMPLE_FILES | {"policies.yaml": text, "models.yaml": MODELS_FILE}))
    return [problem.partition(": ")[2] for problem in problems]


def test_image_count_beyond_model_limit_can_never_match(tmp_path: Path) -> None:
    assert list_rule_problems(["{model: picture-2, n: 8}"], tmp_path) == [
        "rules[0].when.n: Can never match: requests for picture-2 have at most 4 images"
    ]
    assert list_rule_problems(["{model: [picture-2, other], n: 8}", "{n: 10}"], tmp_path) == []


LAST_RULE = "{quality: low}"
SHADOWING_RULES = {
    "by operation": ["{operation: generate}", "{operation: edit}", LAST_RULE],
    "by model": ["{model: picture-2}", "{model: other}", LAST_RULE],
    "by count": ["{n: [1, 2, 3, 4]}", "{model: other, n: [5, 6, 7, 8, 9, 10]}", LAST_RULE],
    "with metadata": ["{operation: generate}", "{operation: edit, metadata: {a: b}}", "{n: 1, metadata: {a: b, c: d}}"],
    "crosswise": ["{operation: generate, n: 1}", "{operation: edit, n: 1}", "{n: 1, team: design}"],
}
NON_SHADOWING_RULES = {
    "by team, since some have none": ["{team: design}", LAST_RULE],
    "but for one count": ["{n: [1, 2, 3, 4]}", "{model: other, n: [5, 6, 7, 8, 9]}", LAST_RULE],
    "but without metadata": ["{operation: generate}", "{operation: edit, metadata: {a: b}}", "{n: 1}"],
    "but for one corner": ["{operation: generate, n: 1}", "{operation: edit, n: 2}", "{n: [1, 2], team: design}"],
}


@pytest.mark.parametrize("rules", SHADOWING_RULES.values(), ids=SHADOWING_RULES)
def test_rule_shadowed_by_earlier_rules_together_is_reported(rules: list[str], tmp_path: Path) -> None:
    message = "Can never match: rules 1, 2 together match all its requests first"
    assert list_rule_problems(rules, tmp_path) == [f"rules[2]: {message}"]


@pytest.mark.parametrize("rules", NON_SHADOWING_RULES.values(), ids=NON_SHADOWING_RULES)
def test_rule_that_can_still_match_is_accepted(rules: list[str], tmp_path: Path) -> None:
    assert list_rule_problems(rules, tmp_path) == []


def test_many_rules_are_checked_quickly(tmp_path: Path) -> None:
    corners = product(("generate", "edit"), ("1k", "2k", "4k"), ("low", "medium"), range(1, 9))
    rules = [f"{{operation: {a}, resolution: {b}, quality: {c}, n: {d}, model: other}}" for a, b, c, d in corners]
    assert list_rule_problems([*rules, LAST_RULE], tmp_path) == []
