"""The unit of systemd, as a table of its settings."""

import re
import shlex

from tests.deploy.dockerfile_instructions import ROOT

UNIT = ROOT / "deploy" / "systemd" / "image-gateway.service"
PROGRAM = "/opt/image-gateway/bin/image-gateway"


def read_unit() -> dict[str, list[str]]:
    """Returns the values of each name, in order."""
    values: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        values.setdefault(name, []).append(value)
    return values


def read_environ() -> dict[str, str]:
    words = [word for value in read_unit()["Environment"] for word in shlex.split(value)]
    return dict(word.split("=", 1) for word in words)
