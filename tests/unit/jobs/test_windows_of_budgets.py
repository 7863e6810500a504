"""Windows of budgets, their parts and ends, and the order in which limits are checked."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.budgets import (
    BudgetLimits,
    KeyBudget,
    WindowKind,
    get_window,
    get_window_end,
    list_budget_windows,
    list_job_limits,
    list_owners,
    make_owner,
    split_owner,
)

# From the first of November 2026 to 2060.
MOMENTS = st.integers(1_793_491_200, 2_840_140_800).map(float)


def parse_time(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "kind", "name", "end"),
    [
        ("2026-11-28T23:59:59", WindowKind.DAY, "2026-11-28", "2026-11-29"),
        ("2026-11-28T12:00:00", WindowKind.WEEK, "2026-W48", "2026-11-30"),
        ("2026-11-30T00:00:00", WindowKind.WEEK, "2026-W49", "2026-12-07"),
        ("2027-01-03T12:00:00", WindowKind.WEEK, "2026-W53", "2027-01-04"),
        ("2026-12-31T12:00:00", WindowKind.MONTH, "2026-12", "2027-01-01"),
        ("2028-02-29T12:00:00", WindowKind.MONTH, "2028-02", "2028-03-01"),
        ("2028-02-29T12:00:00", WindowKind.LIFETIME, "lifetime", None),
    ],
)
def test_window_has_a_name_and_an_end(now: str, kind: WindowKind, name: str, end: str | None) -> None:
    assert get_window(kind, parse_time(now)).name == name
    assert get_window_end(kind, parse_time(now)) == (None if end is None else parse_time(end))


@given(MOMENTS)
def test_window_contains_its_moment_and_ends_after_it(now: float) -> None:
    day, month = list_budget_windows(now)
    for kind in WindowKind:
        parts = get_window(kind, now).parts
        assert (day if kind in (WindowKind.DAY, WindowKind.WEEK) else month) in parts
        end = get_window_end(kind, now)
        if end is not None:
            assert now < end
            assert get_window(kind, end - 1) == get_window(kind, now) != get_window(kind, end)


@given(MOMENTS)
def test_week_is_its_seven_days(now: float) -> None:
    week = get_window(WindowKind.WEEK, now)
    days = [date.fromisoformat(part) for part in week.parts]
    assert days[0].weekday() == 0
    assert [day - days[0] for day in days] == [timedelta(days=offset) for offset in range(7)]
    assert {get_window(WindowKind.WEEK, parse_time(part)) for part in week.parts} == {week}


@given(MOMENTS)
def test_lifetime_is_every_month_and_the_next_one(now: float) -> None:
    """The next one may have begun by the clock of another replica."""
    months = get_window(WindowKind.LIFETIME, now).parts
    assert months[0] == "2026-11"
    assert months[-2] == list_budget_windows(now)[1]
    assert len(months) == len(set(months)) == (int(months[-1][:4]) - 2026) * 12 + int(months[-1][5:]) - 10
    assert list(months) == sorted(months)


def test_lifetime_before_the_first_month_is_its_own_month() -> None:
    assert get_window(WindowKind.LIFETIME, parse_time("1970-01-05")).parts[:2] == ("1970-01", "1970-02")


def test_longest_windows_are_checked_first() -> None:
    now = parse_time("2026-11-28")
    key_budget = KeyBudget("k1", BudgetLimits(day=1, lifetime=2))
    limits = list_job_limits("acme", BudgetLimits(day=3, week=4, month=5), key_budget, now)
    assert [(split_owner(limit.owner)[1], limit.window.kind, limit.amount) for limit in limits] == [
        ("k1", "lifetime", 2),
        ("", "month", 5),
        ("", "week", 4),
        ("", "day", 3),
        ("k1", "day", 1),
    ]
    assert list_job_limits("acme", BudgetLimits(), None, now) == ()


@pytest.mark.parametrize("team", ["acme", "a key:b", " ", "a:b", ""])
def test_owner_is_split_as_it_was_made(team: str) -> None:
    for key_id in ("k1", "env:IGW_KEY", "file:/run/a key:b", "file:/%20 %25"):
        assert split_owner(make_owner(team, key_id)) == (team, key_id)
    assert list_owners(team) == (team,)
