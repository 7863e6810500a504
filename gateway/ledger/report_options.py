"""Parses the options of a report: its period and what it is grouped by. Pure."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from gateway.store.ledger_sums import HOUR_LENGTH, MAX_HOURS, Dimension, TotalsQuery
from gateway.store.ledger_totals import DAY_LENGTH

# A little longer than days are kept by default.
MAX_REPORT_DAYS = 400
DEFAULT_SINCE = "30d"
_DURATION = re.compile(r"([1-9]\d{0,3})([dh])", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d)?", re.ASCII)


class InvalidReportOption(ValueError):
    """An option of a report cannot be used. `option`: its name."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


class ReportOptions(Struct, frozen=True, kw_only=True):
    """The options as text. `since`, `until`: a day (2026-11-01), an hour (2026-11-01T08), both in UTC and included, or
    how far back (7d, 24h); empty for the default and for now."""

    since: str = DEFAULT_SINCE
    until: str = ""
    group_by: tuple[str, ...] = ()
    team: str | None = None

    def to_query(self, now: float) -> TotalsQuery:
        """Raises InvalidReportOption."""
        dimensions = parse_dimensions(self.group_by)
        first, last = _parse_moment("since", self.since or DEFAULT_SINCE, now), _parse_until(self.until, now)
        if Dimension.HOUR in dimensions or len(first) > DAY_LENGTH or len(last) > DAY_LENGTH:
            first, last = _extend(first, "T00"), _extend(last, "T23")
        _check_length(first, last)
        return TotalsQuery(first_period=first, last_period=last, team=self.team, dimensions=dimensions)


def parse_dimensions(texts: Iterable[str]) -> tuple[Dimension, ...]:
    """Parses lists of dimensions, such as `team,day`. Raises InvalidReportOption."""
    words = [word.strip() for text in texts for word in text.split(",") if word.strip()]
    try:
        dimensions = tuple(Dimension(word) for word in words)
    except ValueError:
        raise InvalidReportOption("group_by", f"must be some of {', '.join(Dimension)}") from None
    if len(set(dimensions)) < len(dimensions):
        raise InvalidReportOption("group_by", "has a repeated word")
    return dimensions


def _parse_moment(option: str, text: str, now: float) -> str:
    """Returns a day or an hour. `7d` is the first of the last seven days, today included; `24h` the same of hours."""
    try:
        if match := _DURATION.fullmatch(text):
            return _go_back(now, int(match[1]) - 1, is_hourly=match[2] == "h")
        if _MOMENT.fullmatch(text):
            return datetime.fromisoformat(text).isoformat()[: len(text)]
    except (ValueError, OverflowError):
        pass
    raise InvalidReportOption(option, "must be a day (2026-11-01), an hour in UTC (2026-11-01T08), 7d or 24h")


def _parse_until(text: str, now: float) -> str:
    return _parse_moment("until", text, now) if text else _go_back(now, 0, is_hourly=False)


def _go_back(now: float, count: int, *, is_hourly: bool) -> str:
    step = timedelta(hours=count) if is_hourly else timedelta(days=count)
    return (datetime.fromtimestamp(now, UTC) - step).isoformat()[: HOUR_LENGTH if is_hourly else DAY_LENGTH]


def _extend(period: str, hour: str) -> str:
    return period if len(period) > DAY_LENGTH else period + hour


def _check_length(first: str, last: str) -> None:
    start, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
    if start > end:
        raise InvalidReportOption("since", f"must not be after the end, which is {last}")
    if len(first) > DAY_LENGTH and (end - start) // timedelta(hours=1) >= MAX_HOURS:
        raise InvalidReportOption("since", f"hours are reported for at most {MAX_HOURS // 24} days")
    if (end - start).days >= MAX_REPORT_DAYS:
        raise InvalidReportOption("since", f"days are reported for at most {MAX_REPORT_DAYS} days")
