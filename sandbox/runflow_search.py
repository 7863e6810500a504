"""Listing runs: the filters that pages and clients show, paging, sorting."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.runflow_runs import Run
from sandbox.runflow_wire import RefusalError, field_error, invalid, stamp

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
FIELDS = ("client_ref", "status_code", "id", "created_at")
Test = Callable[[Run], bool]
# `client_ref:abc` as documented, `client_ref.EQ:'abc'` as real clients send it; one kind of quotes around a value.
_TERM = re.compile(
    r"(?P<name>\w+)(?:\.(?i:eq))?\s*(?P<operator>>=|<=|[:=><])\s*(?P<quote>'?)(?P<value>[^']*)(?P=quote)", re.ASCII
)
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    ":": lambda one, other: one == other,
    "=": lambda one, other: one == other,
    ">": lambda one, other: one > other,
    "<": lambda one, other: one < other,
    ">=": lambda one, other: one >= other,
    "<=": lambda one, other: one <= other,
}


@dataclass(frozen=True, slots=True)
class Search:
    wanted: Test
    limit: int
    start: int
    newest_first: bool


def parse(query: Mapping[str, str]) -> Search:
    """`q` in the filter's own language; the fields' plain names as parameters mean the same as one term each."""
    limit = _number(query, "limit", DEFAULT_LIMIT)
    if not 1 <= limit <= MAX_LIMIT:
        raise invalid(field_error(f"Input should be from 1 to {MAX_LIMIT}", "limit"))
    tests = [_term(f"{name}:{query[name]}") for name in FIELDS if name in query]
    if query.get("q", "").strip():
        tests.append(_any_of(query["q"]))
    newest_first = query.get("sort_by", "created_at:desc") != "created_at:asc"
    return Search(lambda run: all(test(run) for test in tests), limit, _number(query, "pq", 0), newest_first)


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise invalid(field_error("Input should be a number", name))
    return int(text)


def _any_of(text: str) -> Test:
    tests = [_all_of(part) for part in text.split(" OR ")]
    return lambda run: any(test(run) for test in tests)


def _all_of(text: str) -> Test:
    tests = [_maybe_not(part.strip()) for part in text.split(" AND ")]
    return lambda run: all(test(run) for test in tests)


def _maybe_not(text: str) -> Test:
    if not text.startswith("NOT "):
        return _term(text)
    inner = _term(text.removeprefix("NOT ").strip())
    return lambda run: not inner(run)


def _term(text: str) -> Test:
    match = _TERM.fullmatch(text)
    if match is None or match["name"] not in FIELDS:
        raise RefusalError(422, message="The filter could not be understood.", errors=[field_error(text[:80], "q")])
    name, compare, value = match["name"], _COMPARE[match["operator"]], match["value"]
    if name == "created_at":
        moment = _moment(value)
        return lambda run: compare(run.order.created, moment)
    return lambda run: compare(_text(run, name), value)


def _moment(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(field_error("Input should be a date, or a date and time", "q")) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _text(run: Run, name: str) -> str:
    if name == "status_code":
        return run.status()
    return run.order.id if name == "id" else run.request.get("client_ref") or ""


def page(runs: list[Run], search: Search, cursors: str) -> dict[str, Any]:
    found = [run for run in runs if search.wanted(run)]
    if search.newest_first:
        found.reverse()
    end = search.start + search.limit
    following = str(end) if end < len(found) else None
    before = str(max(0, search.start - search.limit)) if search.start else None
    items = [_item(run) for run in found[search.start : end]]
    if cursors == "next_pq":
        return {"items": items, "next_pq": following, "prev_pq": before}
    return {"items": items, "first": "0", "next": following, "previous": before}


def _item(run: Run) -> dict[str, Any]:
    """A run in a list: without its output, which is signed only for whoever reads the run itself."""
    return {
        "id": run.order.id,
        "target_type": "model",
        "status_code": run.status(),
        "client_ref": run.request.get("client_ref"),
        "metadata": run.request.get("metadata"),
        "created_at": stamp(run.order.created),
        "completed_at": stamp(run.order.ends) if run.order.settled else None,
    }
