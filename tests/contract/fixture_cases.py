"""Fixtures of all adapters, from `tests/fixtures/<adapter>/`. A new adapter needs fixture files, but no test code."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from providers import ADAPTERS
from providers.adapter import Adapter, Answer

FIXTURES = Path(__file__).parent.parent / "fixtures"
EACH_ADAPTER = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=list(ADAPTERS))


@cache
def load_fixture(adapter: str, name: str) -> dict[str, Any] | None:
    """Loads a fixture file; `same_as` refers to the file of another adapter."""
    path = FIXTURES / adapter / f"{name}.json"
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text())
    return load_fixture(content["same_as"], name) if "same_as" in content else content


def get_model(adapter: Adapter) -> str:
    return str(_load_adapter_fixture(adapter)["model"])


def get_sandbox_account(adapter: Adapter) -> dict[str, str]:
    """Returns vendor, path and key of this seller in the sandbox; empty if the sandbox does not simulate it."""
    return dict(_load_adapter_fixture(adapter).get("sandbox", {}))


def list_excused_cases(adapter: Adapter) -> dict[str, str]:
    """Returns the required cases that this seller cannot have, each with a reason."""
    return dict(_load_adapter_fixture(adapter)["not_applicable"])


def _load_adapter_fixture(adapter: Adapter) -> dict[str, Any]:
    fixture = load_fixture(adapter.name, "adapter")
    assert fixture is not None, f"tests/fixtures/{adapter.name}/adapter.json is missing"
    return fixture


def list_cases(adapter: str, name: str) -> list[dict[str, Any]]:
    content = load_fixture(adapter, name)
    if content is None:
        return []
    return [_apply_base(case, content.get("bases", {})) for case in content["cases"]]


def list_upload_cases(adapter: str, endpoint: str) -> list[dict[str, Any]]:
    content = load_fixture(adapter, "upload")
    return [] if content is None else content[endpoint]


def _apply_base(case: dict[str, Any], bases: dict[str, Any]) -> dict[str, Any]:
    if "base" not in case:
        return case
    return case | {"body": bases[case["base"]] | case.get("with", {})}


def make_answer(case: dict[str, Any]) -> Answer:
    body = case["text"].encode() if "text" in case else json.dumps(case["body"]).encode()
    return Answer(case["status"], case.get("headers", {}), body)


def parametrize_cases(endpoint: str) -> list[Any]:
    """Returns pytest parameters, adapter and case, for every fixture of an endpoint."""
    return [
        pytest.param(adapter, case, id=f"{name}-{case['case']}")
        for name, adapter in ADAPTERS.items()
        for case in list_cases(name, endpoint)
    ]


def list_bodies(adapter: Adapter) -> list[bytes]:
    """Returns every body in the fixtures, as seeds for mutation."""
    found_cases = [
        case for endpoint in ("submit", "poll", "search", "check") for case in list_cases(adapter.name, endpoint)
    ]
    found_cases += [
        case for endpoint in ("prepare", "put", "confirm") for case in list_upload_cases(adapter.name, endpoint)
    ]
    return [make_answer(case).body for case in found_cases]
