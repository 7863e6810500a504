"""Rules that never match give warnings, and no others do. The configuration stays valid."""

from pathlib import Path

import pytest

from tests.unit.config.sample_config import SAMPLE_FILES, resolve_config, write_config

MODELS_FILE = SAMPLE_FILES["models.yaml"] + "  other: {max_images: 10}\n"


def list_rule_warnings(rules: list[str], folder: Path) -> list[str]:
    lines = [f"  - {{when: {when}, use: split}}\n" for when in rules]
    head = SAMPLE_FILES["policies.yaml"].partition("rules:")[0]
    text = f"{head}rules:\n{''.join(lines)}default: cheapest\n"
    config = resolve_config(write_config(folder, SAMPLE_FILES | {"policies.yaml": text, "models.yaml": MODELS_FILE}))
    assert config.catalogue is not None, config.problems
    return [str(warning).removeprefix(f"{folder}/policies.yaml:") for warning in config.warnings]


def test_rule_for_more_images_than_its_models_make_gives_warning(tmp_path: Path) -> None:
    assert list_rule_warnings(["{model: image-2, n: 8}"], tmp_path) == [
        "12: rules[0]: Never matches: requests for image-2 have at most 4 images"
    ]
    possible_rules = ["{model: [image-2, other], n: 8}", "{n: 10}", "{model: image-2, n: [4, 8]}"]
    assert list_rule_warnings(possible_rules, tmp_path) == []


SHADOWED_RULES = {
    "the same conditions in another order": ("{team: design, resolution: 4k}", "{resolution: 4k, team: design}"),
    "a further condition": ("{team: design, resolution: 4k}", "{team: design, resolution: 4k, quality: [low, high]}"),
    "no condition before": ("{}", "{operation: edit}"),
    "no condition in either": ("{}", "{}"),
    "a list that has all values": ("{operation: [generate, edit]}", "{operation: edit}"),
    "all operations before": ("{operation: [generate, edit]}", "{}"),
    "all qualities before": ("{quality: [low, medium, high]}", "{team: design}"),
    "all resolutions before": ("{resolution: [4k, 2k, 1k]}", "{quality: high}"),
    "all models before": ("{model: [other, image-2]}", "{}"),
    "all numbers of images of the model before": ("{n: [1, 2, 3, 4]}", "{model: image-2}"),
    "a part of a list": ("{n: [1, 2, 3]}", "{n: [3, 1]}"),
    "more metadata": ("{metadata: {a: b}}", "{metadata: {a: b, c: d}}"),
}
NON_SHADOWED_RULES = {
    "fewer conditions": ("{team: design, resolution: 4k}", "{team: design}"),
    "no condition at all": ("{team: design}", "{}"),
    "all operations but one before": ("{operation: [generate]}", "{}"),
    "all qualities but one before": ("{quality: [low, medium]}", "{}"),
    "all numbers of images of another model before": ("{n: [1, 2, 3, 4]}", "{model: other}"),
    "all teams, but requests may have none": ("{team: [design]}", "{}"),
    "a value more": ("{n: [1, 2]}", "{n: [1, 2, 3]}"),
    "another value": ("{quality: high}", "{quality: low}"),
    "another condition": ("{quality: high}", "{resolution: 4k}"),
    "less metadata": ("{metadata: {a: b, c: d}}", "{metadata: {a: b}}"),
    "other metadata": ("{metadata: {a: b}}", "{metadata: {a: c}}"),
}


@pytest.mark.parametrize(("earlier", "rule"), SHADOWED_RULES.values(), ids=SHADOWED_RULES)
def test_rule_covered_by_an_earlier_rule_gives_warning(earlier: str, rule: str, tmp_path: Path) -> None:
    assert list_rule_warnings(["{n: 9}", earlier, rule], tmp_path) == [
        "14: rules[2]: Never matches: rule 2 matches all its requests first"
    ]


@pytest.mark.parametrize(("earlier", "rule"), NON_SHADOWED_RULES.values(), ids=NON_SHADOWED_RULES)
def test_rule_that_can_still_match_gives_no_warning(earlier: str, rule: str, tmp_path: Path) -> None:
    assert list_rule_warnings([earlier, rule], tmp_path) == []
