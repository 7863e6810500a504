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


# Shapes of errors that no documentation of these sellers shows: of proxies, of other servers with the same API, and of
# validation in other frameworks.
OTHER_ERROR_BODIES = (
    *({"error": "too small"}, {"message": "too small", "object": "error"}, {"detail": "too small"}),
    *({"error": {"message": "too small"}}, {"error": {"message": None}, "message": "too small"}),
    *({"detail": [{"loc": ["body", "size"], "msg": "too small"}]}, {"detail": {"message": "too small"}}),
    *({"errors": [{"message": "too small"}]}, {"errors": ["too small"]}, {"errors": {"size": "too small"}}),
    *({"error": "invalid", "errors": {"size": ["too small"]}}, {"message": "invalid", "errors": ["too small"]}),
)


@fixture_cases.EACH_ADAPTER
@pytest.mark.parametrize("body", OTHER_ERROR_BODIES, ids=json.dumps)
def test_message_is_read_wherever_it_is(adapter: Adapter, body: dict[str, Any]) -> None:
    fault = read_fault(adapter, "submit", {"status": 422, "body": body})
    assert fault.message.endswith("too small")
    assert "size" not in fault.message


@fixture_cases.EACH_ADAPTER
def test_plain_text_is_the_message_and_a_page_is_not(adapter: Adapter) -> None:
    plain, page = (
        read_fault(adapter, "submit", {"status": 503, "headers": {"content-type": media_type}, "text": text})
        for media_type, text in (("text/plain; charset=utf-8", "no healthy upstream"), ("text/html", "<p>no</p>"))
    )
    assert (plain.message, page.message) == ("no healthy upstream", "")
    assert plain.kind == page.kind


@fixture_cases.EACH_ADAPTER
def test_plain_text_does_not_decide_what_happened(adapter: Adapter) -> None:
    """It may be of a proxy, so that nothing is known about the order."""
    headers, text = {"content-type": "text/plain"}, "No active channel available: content policy violation"
    fault = read_fault(adapter, "submit", {"status": 503, "headers": headers, "text": text})
    assert (fault.kind, fault.message) == ("overloaded", text)


@fixture_cases.EACH_ADAPTER
def test_other_members_of_an_error_are_not_read(adapter: Adapter) -> None:
    body = {"error": {"code": "E1", "param": "size", "input": "a kite"}, "request": "r1"}
    assert read_fault(adapter, "submit", {"status": 422, "body": body}).message == ""


@fixture_cases.EACH_ADAPTER
def test_equal_messages_are_read_once(adapter: Adapter) -> None:
    body = {"message": "too small", "detail": "too small", "error": "too small", "errors": ["too small"]}
    assert read_fault(adapter, "submit", {"status": 422, "body": body}).message == "too small"


@fixture_cases.EACH_ADAPTER
def test_fixtures_contain_codes_and_messages(adapter: Adapter) -> None:
    bodies = [parse_body(case) for case in fixture_cases.list_cases(adapter.name, "submit") if "fault" in case["means"]]
    assert sum(any(find_texts(body, TEXT_MEMBERS + MIXED_MEMBERS)) for body in bodies) >= 10
    assert any(any(find_texts(body, CODE_MEMBERS)) for body in bodies)
