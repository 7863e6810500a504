"""`GET /v1/usage`: what a team spent, or all teams for an admin. `GET /v1/admin/ledger`: what no team pays."""

from collections.abc import Iterator
from contextlib import contextmanager

from litestar import Response, get

from gateway.access.principal import Principal
from gateway.api.access_control import ADMIN, READ_OR_ADMIN
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_principal
from gateway.api.json_responses import json_response
from gateway.api.query_params import parse_limit, read_query_params
from gateway.jobs.transition_tables import LedgerLine
from gateway.ledger.report_json import serialize_entry_list, serialize_report
from gateway.ledger.report_options import InvalidReportOption, ReportOptions
from gateway.ledger.report_reader import (
    IRREGULAR_LINES,
    MAX_LISTED_ENTRIES,
    list_irregular_entries,
    load_report,
    parse_lines,
)

USAGE_PATH, LEDGER_PATH = "/v1/usage", "/v1/admin/ledger"


@get(USAGE_PATH, opt=READ_OR_ADMIN)
async def get_usage(request: HttpRequest) -> Response[bytes]:
    """Reports the spend of the team; for an admin key, of any team or of all."""
    context = get_context(request)
    params = read_query_params(request, "since", "until", "group_by", "team", repeatable=("group_by",))
    with _translate_errors():
        options = _build_options(params, _select_team(get_principal(request), params["team"]))
        report = await load_report(context.store, options, context.wall_clock())
    return json_response(serialize_report(report), 200, {})


@get(LEDGER_PATH, opt=ADMIN)
async def list_ledger(request: HttpRequest) -> Response[bytes]:
    """Lists the entries that are not captures, the newest day first."""
    context = get_context(request)
    params = read_query_params(request, "since", "until", "lines", "team", "limit", repeatable=("lines",))
    limit = parse_limit(params["limit"], MAX_LISTED_ENTRIES, MAX_LISTED_ENTRIES)
    with _translate_errors():
        lines: tuple[LedgerLine, ...] = parse_lines(params["lines"]) or IRREGULAR_LINES
        options = _build_options(params, params["team"][-1] if params["team"] else None)
        listed = await list_irregular_entries(context.store, options, context.wall_clock(), lines, limit)
    return json_response(serialize_entry_list(listed), 200, {})


def _build_options(params: dict[str, list[str]], team: str | None) -> ReportOptions:
    return ReportOptions(
        since="".join(params["since"]),
        until="".join(params["until"]),
        group_by=tuple(params.get("group_by", ())),
        team=team,
    )


def _select_team(principal: Principal, names: list[str]) -> str | None:
    """Returns the team to report; None for all. Raises ApiError if a team's key asks for another team."""
    name = names[-1] if names else None
    if principal.team is None or name in (None, principal.team):
        return principal.team or name
    message = "Only a key with the scope 'admin' may ask for another team. Omit 'team'."
    raise ApiError(403, "insufficient_scope", message, param="team")


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except InvalidReportOption as error:
        message = f"Invalid value for '{error.option}': {error}."
        raise ApiError(400, "invalid_value", message, param=error.option) from None


USAGE_HANDLERS = [get_usage, list_ledger]
