"""`deploy/compose.yaml`, with the defaults of its variables."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.dockerfile_instructions import ROOT

FOLDER = ROOT / "deploy"
COMPOSE_FILE = FOLDER / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def read_compose_file() -> dict[str, Any]:
    """Reads the file as Compose does if no variable is set."""
    text = VARIABLE.sub(lambda match: match[2] or "", COMPOSE_FILE.read_text())
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def list_services(profile: str) -> dict[str, dict[str, Any]]:
    """Returns the services that `--profile` starts."""
    services = read_compose_file()["services"]
    return {name: service for name, service in services.items() if profile in service.get("profiles", [profile])}


def list_bind_sources(service: dict[str, Any]) -> list[Path]:
    return [FOLDER / volume["source"] for volume in service.get("volumes", []) if volume["type"] == "bind"]


def parse_duration(text: str) -> int:
    match = re.fullmatch(r"(\d+)s", text)
    assert match is not None, text
    return int(match[1])
