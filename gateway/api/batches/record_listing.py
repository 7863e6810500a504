"""Lists a team's files or batches in OpenAI's form."""

from collections.abc import Callable
from typing import Any

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_team
from gateway.api.batches.deleted_records import find_record_or_mark
from gateway.api.query_params import parse_limit, read_query_params
from gateway.store.team_records import MAX_PAGE_RECORDS, RecordKind, RecordPosition, TeamRecord

RecordSerializer = Callable[[TeamRecord, dict[str, list[str]]], dict[str, Any] | None]
# How many pages of records are read for one page of results, if a filter drops most records.
MAX_SCANNED_PAGES = 10


async def list_team_records(
    request: HttpRequest, kind: RecordKind, serialize: RecordSerializer, *filter_names: str
) -> dict[str, Any]:
    """Lists records in the order of the parameter `order`, without those for which `serialize` returns None.

    The parameter `after` is the last id of the previous page. It may have been deleted meanwhile.
    """
    params = read_query_params(request, "limit", "after", "order", *filter_names)
    limit = parse_limit(params["limit"], MAX_PAGE_RECORDS)
    if params["order"] not in ([], ["desc"], ["asc"]):
        message = "Invalid value for 'order': must be desc, newest first, or asc."
        raise ApiError(400, "invalid_value", message, param="order")
    oldest_first = params["order"] == ["asc"]
    after = await _find_position(request, kind, params["after"][-1]) if params["after"] else None
    found: list[dict[str, Any]] = []
    has_more = True
    for _ in range(MAX_SCANNED_PAGES):
        records = await get_context(request).store.team_records.list_records(
            kind, get_team(request), MAX_PAGE_RECORDS, after, oldest_first
        )
        found += [body for record in records if (body := serialize(record, params)) is not None]
        has_more = len(records) == MAX_PAGE_RECORDS
        if not has_more or len(found) > limit:
            break
        after = records[-1].position
    data = found[:limit]
    return {
        "object": "list",
        "data": data,
        "has_more": len(found) > limit or (has_more and bool(data)),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


async def _find_position(request: HttpRequest, kind: RecordKind, record_id: str) -> RecordPosition:
    found = await find_record_or_mark(get_context(request), kind, get_team(request), record_id)
    if found is None:
        message = f"Invalid value for 'after': no such {kind}; it may have been deleted. List again without it."
        raise ApiError(400, "invalid_value", message, param="after")
    return RecordPosition(found.created_at, record_id)
