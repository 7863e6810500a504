"""Status, code and message of every refusal in the fixtures are read, wherever the seller puts them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from providers.adapter import Adapter
from providers.faults import Fault
from providers.parsing import MAX_TEXT_CHARACTERS, sanitize_text
from tests.contract import fixture_cases

# The members of sellers' answers that contain a code, or a text for people.
CODE_MEMBERS = ("code", "failure_code")
TEXT_MEMBERS = ("message", "msg", "failure_message")
# The members that are such a text unless they are an object.
MIXED_MEMBERS = ("error", "detail")
MAX_CODE_CHARACTERS = 80


def list_refusals(endpoint: str) -> list[Any]:
    """Lists the cases that the seller refused or failed by its own words: an error status, or a failed order."""
    return [
        parameters
        for parameters in fixture_cases.parametrize_cases(endpoint)
        if (fault := parameters.values[1]["means"].get("fault")) and fault["kind"] not in ("unreadable", "no_images")
    ]


def read_fault(adapter: Adapter, endpoint: str, case: dict[str, Any]) -> Fault:
    progress: Any = getattr(adapter, endpoint).read_answer(fixture_cases.make_answer(case))
    assert isinstance(progress.fault, Fault)
    return progress.fault


def find_texts(value: object, names: tuple[str, ...]) -> Iterator[str]:
    """Yields the strings in members of these names, and in lists of field errors, at any depth."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name in names and isinstance(member, str | int) and str(member).strip():
                yield str(member)
            yield from find_texts(member, names)
    elif isinstance(value, list):
        for entry in value:
            yield from find_texts(entry, names)


def parse_body(case: dict[str, Any]) -> object:
    if "body" in case:
        return case["body"]
    try:
        return json.loads(case["text"])
    except ValueError:
        return None


def check_fault(case: dict[str, Any], fault: Fault) -> None:
    body = parse_body(case)
    if not 200 <= case["status"] < 300:
        assert fault.status == case["status"]
    codes = list(find_texts(body, CODE_MEMBERS))
    if codes and fault.kind != "unknown_status":
        assert fault.code == codes[0][:MAX_CODE_CHARACTERS]
    texts = list(find_texts(body, TEXT_MEMBERS + MIXED_MEMBERS))
    if texts:
        assert sanitize_text(texts[0]) in fault.message
        assert len(fault.message) <= MAX_TEXT_CHARACTERS


@pytest.mark.parametrize(("adapter", "case"), list_refusals("submit"))
def test_status_code_and_message_of_refused_order_are_read(adapter: Adapter, case: dict[str, Any]) -> None:
    check_fault(case, read_fault(adapter, "submit", case))


@pytest.mark.parametrize(("adapter", "case"), list_refusals("poll"))
def test_code_and_message_of_failed_order_are_read(adapter: Adapter, case: dict[str, Any]) -> None:
    check_fault(case, read_fault(adapter, "poll", case))


@fixture_cases.EACH_ADAPTER
def test_fixtures_contain_codes_and_messages(adapter: Adapter) -> None:
    bodies = [parse_body(case) for case in fixture_cases.list_cases(adapter.name, "submit") if "fault" in case["means"]]
    assert sum(any(find_texts(body, TEXT_MEMBERS + MIXED_MEMBERS)) for body in bodies) >= 10
    assert any(any(find_texts(body, CODE_MEMBERS)) for body in bodies)
