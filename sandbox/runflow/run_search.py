"""Search of runs: filters, paging, sorting."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.charges import format_usd
from sandbox.runflow.http_helpers import RunflowError, build_field_error, format_timestamp, validation_error
from sandbox.runflow.runs import RunflowRun

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
SEARCH_FIELDS = ("client_ref", "status_code", "id", "created_at")
RunFilter = Callable[[RunflowRun], bool]
# `client_ref:abc` as documented, `client_ref.EQ:'abc'` as real clients send it.
_TERM_PATTERN = re.compile(
    r"(?P<name>\w+)(?:\.(?i:eq))?\s*(?P<operator>>=|<=|[:=><])\s*(?P<quote>'?)(?P<value>[^']*)(?P=quote)", re.ASCII
)
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    ":": operator.eq,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


@dataclass(frozen=True, slots=True)
class RunQuery:
    matches: RunFilter
    limit: int
    start: int
    is_newest_first: bool


def parse_query(query: Mapping[str, str]) -> RunQuery:
    """Parses `q`, a filter expression; parameters named like a field are one more term each."""
    limit = _parse_number(query, "limit", DEFAULT_LIMIT)
    if not 1 <= limit <= MAX_LIMIT:
        raise validation_error(build_field_error(f"Input should be from 1 to {MAX_LIMIT}", "limit"))
    filters = [_parse_term(f"{name}:{query[name]}") for name in SEARCH_FIELDS if name in query]
    if query.get("q", "").strip():
        filters.append(_parse_disjunction(query["q"]))
    newest_first = query.get("sort_by", "created_at:desc") != "created_at:asc"
    return RunQuery(
        lambda run: all(run_filter(run) for run_filter in filters), limit, _parse_number(query, "pq", 0), newest_first
    )


def _parse_number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise validation_error(build_field_error("Input should be a number", name))
    return int(text)


def _parse_disjunction(text: str) -> RunFilter:
    filters = [_parse_conjunction(part) for part in text.split(" OR ")]
    return lambda run: any(run_filter(run) for run_filter in filters)


def _parse_conjunction(text: str) -> RunFilter:
    filters = [_parse_negation(part.strip()) for part in text.split(" AND ")]
    return lambda run: all(run_filter(run) for run_filter in filters)


def _parse_negation(text: str) -> RunFilter:
    if not text.startswith("NOT "):
        return _parse_term(text)
    inner = _parse_term(text.removeprefix("NOT ").strip())
    return lambda run: not inner(run)


def _parse_term(text: str) -> RunFilter:
    match = _TERM_PATTERN.fullmatch(text)
    if match is None or match["name"] not in SEARCH_FIELDS:
        raise RunflowError(
            422, message="The filter could not be understood.", errors=[build_field_error(text[:80], "q")]
        )
    name, compare, value = match["name"], _COMPARISONS[match["operator"]], match["value"]
    if name == "created_at":
        timestamp = _parse_timestamp(value)
        return lambda run: compare(run.order.created_at, timestamp)
    return lambda run: compare(_get_field(run, name), value)


def _parse_timestamp(text: str) -> float:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise validation_error(build_field_error("Input should be a date, or a date and time", "q")) from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _get_field(run: RunflowRun, name: str) -> str:
    if name == "status_code":
        return run.get_status()
    return run.order.id if name == "id" else run.request.get("client_ref") or ""


def build_page(runs: list[RunflowRun], query: RunQuery, cursors: str) -> dict[str, Any]:
    matching = [run for run in runs if query.matches(run)]
    if query.is_newest_first:
        matching.reverse()
    end = query.start + query.limit
    next_cursor = str(end) if end < len(matching) else None
    previous_cursor = str(max(0, query.start - query.limit)) if query.start else None
    items = [_serialize_entry(run) for run in matching[query.start : end]]
    if cursors == "next_pq":
        return {"items": items, "next_pq": next_cursor, "prev_pq": previous_cursor}
    return {"items": items, "first": "0", "next": next_cursor, "previous": previous_cursor}


def _serialize_entry(run: RunflowRun) -> dict[str, Any]:
    """Serializes a run for a list: without its output."""
    charged = run.order.charged_micros if run.order.is_settled else 0
    return {
        "cost": format_usd(charged) if charged else None,
        "id": run.order.id,
        "target_type": "model",
        "status_code": run.get_status(),
        "client_ref": run.request.get("client_ref"),
        "metadata": run.request.get("metadata"),
        "created_at": format_timestamp(run.order.created_at),
        "completed_at": format_timestamp(run.order.ends_at) if run.order.is_settled else None,
    }
