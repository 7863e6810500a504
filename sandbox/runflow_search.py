"""Listing runs: both filter syntaxes that pages and clients show, paging, sorting."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.runflow_runs import Run
from sandbox.runflow_wire import field_error, invalid, stamp

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
# `client_ref:abc` as documented, `client_ref.EQ:'abc'` as real clients send it.
_TERM = re.compile(r"(?P<name>\w+)(?:\.(?i:eq))?\s*[:=]\s*(?P<quote>'?)(?P<value>[^']*)(?P=quote)")


@dataclass(frozen=True, slots=True)
class Search:
    wanted: Mapping[str, str]
    limit: int
    start: int
    newest_first: bool


def parse(query: Mapping[str, str]) -> Search:
    limit, cursor = query.get("limit", str(DEFAULT_LIMIT)), query.get("pq", "0")
    if not (limit.isdigit() and 1 <= int(limit) <= MAX_LIMIT):
        raise invalid(field_error(f"Input should be from 1 to {MAX_LIMIT}", "limit"))
    if not cursor.isdigit():
        raise invalid(field_error("The cursor is not valid", "pq"))
    newest_first = query.get("sort_by", "created_at:desc") != "created_at:asc"
    return Search(_terms(query.get("q", "")), int(limit), int(cursor), newest_first)


def _terms(text: str) -> dict[str, str]:
    wanted = {}
    for term in text.split(" AND ") if text.strip() else []:
        match = _TERM.fullmatch(term.strip())
        if match is None or match["name"] not in ("client_ref", "status_code", "id"):
            raise invalid(field_error("The filter could not be understood", "q"))
        wanted[match["name"]] = match["value"]
    return wanted


def page(runs: list[Run], search: Search, cursors: str) -> dict[str, Any]:
    found = [run for run in runs if all(_field(run, name) == value for name, value in search.wanted.items())]
    if search.newest_first:
        found.reverse()
    end = search.start + search.limit
    following = str(end) if end < len(found) else None
    before = str(max(0, search.start - search.limit)) if search.start else None
    items = [_item(run) for run in found[search.start : end]]
    if cursors == "next_pq":
        return {"items": items, "next_pq": following, "prev_pq": before}
    return {"items": items, "first": "0", "next": following, "previous": before}


def _field(run: Run, name: str) -> str | None:
    if name == "status_code":
        return run.status()
    return run.order.id if name == "id" else run.request.get("client_ref")


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
