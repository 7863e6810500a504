"""Fixtures of all adapters, read from `tests/fixtures/<adapter>/`. A new adapter brings files, not code."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from providers import ADAPTERS
from providers.spec import Adapter, Answer

FIXTURES = Path(__file__).parent.parent / "fixtures"


@cache
def load(adapter: str, name: str) -> dict[str, Any] | None:
    """One fixture file; one that is the same as another adapter's only says so."""
    path = FIXTURES / adapter / f"{name}.json"
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text())
    return load(content["same_as"], name) if "same_as" in content else content


def model(adapter: Adapter) -> str:
    return str(_about(adapter)["model"])


def simulated(adapter: Adapter) -> dict[str, str]:
    """Where the sandbox plays this seller: its vendor, path and key. Empty if it does not."""
    return dict(_about(adapter).get("sandbox", {}))


def not_applicable(adapter: Adapter) -> dict[str, str]:
    """Required cases that this seller cannot have, each with the reason."""
    return dict(_about(adapter)["not_applicable"])


def _about(adapter: Adapter) -> dict[str, Any]:
    about = load(adapter.name, "adapter")
    assert about is not None, f"tests/fixtures/{adapter.name}/adapter.json is missing"
    return about


def cases(adapter: str, name: str) -> list[dict[str, Any]]:
    content = load(adapter, name)
    if content is None:
        return []
    return [_resolved(case, content.get("bases", {})) for case in content["cases"]]


def upload_cases(adapter: str, step: str) -> list[dict[str, Any]]:
    content = load(adapter, "upload")
    return [] if content is None else content[step]


def _resolved(case: dict[str, Any], bases: dict[str, Any]) -> dict[str, Any]:
    if "base" not in case:
        return case
    return case | {"body": bases[case["base"]] | case.get("with", {})}


def answer(case: dict[str, Any]) -> Answer:
    body = case["text"].encode() if "text" in case else json.dumps(case["body"]).encode()
    return Answer(case["status"], case.get("headers", {}), body)


def each(step: str) -> list[Any]:
    """pytest parameters: adapter and case, for every fixture of a step."""
    return [
        pytest.param(adapter, case, id=f"{name}-{case['case']}")
        for name, adapter in ADAPTERS.items()
        for case in cases(name, step)
    ]


def all_bodies(adapter: Adapter) -> list[bytes]:
    """Every body in the fixtures, as seeds for mutation."""
    found = [case for step in ("submit", "poll", "find") for case in cases(adapter.name, step)]
    found += [case for step in ("prepare", "put", "confirm") for case in upload_cases(adapter.name, step)]
    return [answer(case).body for case in found]
