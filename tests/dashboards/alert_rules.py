"""The shipped recording and alert rules, and the program that checks them."""

import subprocess
from typing import Any

import yaml

from tests.dashboards.prometheus_server import PROGRAMS, RULES_FOLDER

# The last one is the operator's.
RULE_FILES = (*sorted(RULES_FOLDER.glob("*.yaml")), RULES_FOLDER.parent / "expected_replicas.yaml")
RULES: list[dict[str, Any]] = [
    rule for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}


def run_promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([PROGRAMS / "promtool", *arguments], capture_output=True, text=True, check=False)
