"""A job id contains the day of its creation."""

import pytest

from gateway.store.partitions import get_job_day, new_job_id
from tests.store.job_factory import parse_utc_time


@pytest.mark.parametrize(
    ("created_at", "day"),
    [
        ("1970-01-01T00:00:00", "1970-01-01"),
        ("2026-11-27T00:00:00", "2026-11-27"),
        ("2026-11-27T23:59:59", "2026-11-27"),
        ("2028-02-29T12:00:00", "2028-02-29"),
        ("2089-01-01T00:00:00", "2089-01-01"),
    ],
)
def test_day_is_read_from_the_id(created_at: str, day: str) -> None:
    assert get_job_day(new_job_id("acme", now=lambda: parse_utc_time(created_at))) == day


@pytest.mark.parametrize("text", ["", "job_00", "job_00" + "0" * 26, "nonsense", "job_99" + "9" * 26, "\0" * 40])
def test_invalid_id_has_any_day(text: str) -> None:
    assert len(get_job_day(text)) == len("2026-11-27")
