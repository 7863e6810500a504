"""The period and the groups of a report, as people write them."""

from datetime import UTC, datetime

import pytest

from gateway.ledger.report_options import InvalidReportOption, ReportOptions
from gateway.store.ledger_sums import Dimension

NOW = datetime(2026, 11, 28, 9, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("since", "until", "group_by", "expected"),
    [
        ("", "", "", ("2026-10-30", "2026-11-28")),
        ("7d", "", "", ("2026-11-22", "2026-11-28")),
        ("1d", "", "team,day", ("2026-11-28", "2026-11-28")),
        ("2026-11-01", "2026-11-30", "", ("2026-11-01", "2026-11-30")),
        ("24h", "", "", ("2026-11-27T10", "2026-11-28T23")),
        ("1h", "1h", "", ("2026-11-28T09", "2026-11-28T09")),
        ("2026-11-27", "", "hour", ("2026-11-27T00", "2026-11-28T23")),
        ("2026-11-27T08", "2026-11-27", "", ("2026-11-27T08", "2026-11-27T23")),
        ("2025-11-01", "2026-11-28", "", ("2025-11-01", "2026-11-28")),
    ],
)
def test_period_includes_its_first_and_last_day_or_hour(
    since: str, until: str, group_by: str, expected: tuple[str, str]
) -> None:
    query = ReportOptions(since=since, until=until, group_by=(group_by,)).to_query(NOW)
    assert (query.first_period, query.last_period) == expected
    assert query.list_periods()[0] == expected[0]
    assert query.list_periods()[-1] == expected[1]


@pytest.mark.parametrize(
    ("options", "name", "text"),
    [
        ({"since": "yesterday"}, "since", "2026-11-01T08"),
        ({"since": "2026-02-30"}, "since", "2026-11-01T08"),
        ({"since": "0d"}, "since", "7d"),
        ({"since": "9999d"}, "since", "400 days"),
        ({"since": "2026-11-01T8"}, "since", "2026-11-01T08"),
        ({"until": "later"}, "until", "2026-11-01T08"),
        ({"since": "2026-11-29"}, "since", "must not be after the end"),
        ({"since": "2026-11-01", "group_by": ("hour",)}, "since", "7 days"),
        ({"since": "2024-10-01"}, "since", "400 days"),
        ({"group_by": ("team,people",)}, "group_by", "team, key, seller, model, cell, day, hour"),
        ({"group_by": ("team", "team")}, "group_by", "repeated"),
    ],
)
def test_invalid_option_is_named_with_what_is_valid(options: dict[str, str], name: str, text: str) -> None:
    with pytest.raises(InvalidReportOption, match=text) as caught:
        ReportOptions(**options).to_query(NOW)  # type: ignore[arg-type]
    assert caught.value.option == name


def test_groups_may_be_one_list_or_several() -> None:
    expected = (Dimension.TEAM, Dimension.DAY, Dimension.CELL)
    for group_by in (("team,day,cell",), ("team", "day, cell"), ("team", "day", "cell")):
        assert ReportOptions(group_by=group_by).to_query(NOW).dimensions == expected
