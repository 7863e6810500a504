"""The documentation of the routes of spend, by the name of the handler."""

from gateway.api.reference.route_documentation import (
    ExampleRequest,
    ResponseDocumentation,
    RouteDocumentation,
    make_query_parameter,
)
from gateway.api.usage.usage_types import LedgerEntryListBody, UsageReportBody
from gateway.ledger.report_options import DEFAULT_SINCE
from gateway.ledger.report_reader import IRREGULAR_LINES, MAX_LISTED_ENTRIES
from gateway.store.ledger_sums import MAX_HOURS, Dimension

_SINCE = make_query_parameter(
    "since",
    "A day (`2026-11-01`), an hour in UTC (`2026-11-01T08`), the last days with today (`7d`) or hours (`24h`). "
    f"Without it, `{DEFAULT_SINCE}`.",
)
_UNTIL = make_query_parameter("until", "The last day or hour, which is included. Without it, now.")

USAGE_ROUTE_DOCUMENTATION = {
    "get_usage": RouteDocumentation(
        tag="Usage",
        summary="Report spend",
        description="The spend of the team in a period. A key with the scope `admin` may ask for any team, or for all. "
        f"Grouped by the hour, or with an hour in the period, it covers at most {MAX_HOURS // 24} days.",
        parameters=(
            _SINCE,
            _UNTIL,
            make_query_parameter("group_by", f"Some of {', '.join(f'`{name}`' for name in Dimension)}, with commas."),
            make_query_parameter("team", "For a key with the scope `admin`: the team. Without it, all teams."),
        ),
        responses={200: ResponseDocumentation("The report.", UsageReportBody)},
        errors=("invalid_value", "unknown_parameter"),
        examples={"default": ExampleRequest(query="since=7d&group_by=day,model")},
    ),
    "list_ledger": RouteDocumentation(
        tag="Administration",
        summary="List what no team pays",
        description="The entries of the ledger that are not captures, the newest day first, with their job and reason.",
        parameters=(
            _SINCE,
            _UNTIL,
            make_query_parameter(
                "lines", f"Some of {', '.join(f'`{line}`' for line in IRREGULAR_LINES)}, with commas."
            ),
            make_query_parameter("team", "Only entries of this team."),
            make_query_parameter(
                "limit", "Entries to list.", {"type": "integer", "minimum": 1, "maximum": MAX_LISTED_ENTRIES}
            ),
        ),
        responses={200: ResponseDocumentation("The entries.", LedgerEntryListBody)},
        errors=("invalid_value", "unknown_parameter"),
        examples={"default": ExampleRequest(query="since=7d&lines=orphan,suspected")},
    ),
}
