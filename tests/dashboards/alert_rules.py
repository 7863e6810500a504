"""The shipped recording and alert rules, and the program that checks them."""

import subprocess
from typing import Any

import yaml

from tests.dashboards.prometheus_server import PROGRAMS, RULES_FOLDER

RULES: list[dict[str, Any]] = [
    rule
    for path in sorted(RULES_FOLDER.glob("*.yaml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}


def run_promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([PROGRAMS / "promtool", *arguments], capture_output=True, text=True, check=False)
