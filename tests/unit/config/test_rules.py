"""Rules that can never match are told, and no others."""

from itertools import product
from pathlib import Path

import pytest

from tests.unit.config.base import FILES, write
from tests.unit.config.test_broken import told

MODELS = FILES["models.yaml"] + "  other: {most_images: 10}\n"


def told_of(rules: list[str], folder: Path) -> list[str]:
    lines = [f"  - {{when: {when}, use: split}}\n" for when in rules]
    head = FILES["policies.yaml"].partition("rules:")[0]
    text = f"{head}rules:\n{''.join(lines)}default: cheapest\n"
    problems = told(write(folder, FILES | {"policies.yaml": text, "models.yaml": MODELS}))
    return [problem.partition(": ")[2] for problem in problems]


def test_a_model_of_fewer_images_than_others(tmp_path: Path) -> None:
    assert told_of(["{model: picture-2, n: 8}"], tmp_path) == [
        "rules[0].when.n: can never match: no request for picture-2 has more than 4 images"
    ]
    assert told_of(["{model: [picture-2, other], n: 8}", "{n: 10}"], tmp_path) == []


LAST = "{quality: low}"
TAKEN = {
    "by operation": ["{operation: generate}", "{operation: edit}", LAST],
    "by model": ["{model: picture-2}", "{model: other}", LAST],
    "by count": ["{n: [1, 2, 3, 4]}", "{model: other, n: [5, 6, 7, 8, 9, 10]}", LAST],
    "with metadata": ["{operation: generate}", "{operation: edit, metadata: {a: b}}", "{n: 1, metadata: {a: b, c: d}}"],
    "crosswise": ["{operation: generate, n: 1}", "{operation: edit, n: 1}", "{n: 1, team: design}"],
}
NOT_TAKEN = {
    "by team, since some have none": ["{team: design}", LAST],
    "but for one count": ["{n: [1, 2, 3, 4]}", "{model: other, n: [5, 6, 7, 8, 9]}", LAST],
    "but without metadata": ["{operation: generate}", "{operation: edit, metadata: {a: b}}", "{n: 1}"],
    "but for one corner": ["{operation: generate, n: 1}", "{operation: edit, n: 2}", "{n: [1, 2], team: design}"],
}


@pytest.mark.parametrize("rules", TAKEN.values(), ids=TAKEN)
def test_what_rules_take_together_is_left_to_no_other(rules: list[str], tmp_path: Path) -> None:
    together = "can never match: rules 1, 2 together take everything before it"
    assert told_of(rules, tmp_path) == [f"rules[2]: {together}"]


@pytest.mark.parametrize("rules", NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_a_rule_that_something_is_left_to_is_right(rules: list[str], tmp_path: Path) -> None:
    assert told_of(rules, tmp_path) == []


def test_very_many_rules_are_judged_in_time(tmp_path: Path) -> None:
    corners = product(("generate", "edit"), ("1k", "2k", "4k"), ("low", "medium"), range(1, 9))
    rules = [f"{{operation: {a}, resolution: {b}, quality: {c}, n: {d}, model: other}}" for a, b, c, d in corners]
    assert told_of([*rules, LAST], tmp_path) == []
