"""Shortens the days of all retention options in a gateway of a test."""

import gateway.components


def shorten_days(day_seconds: float) -> None:
    gateway.components.DAY_SECONDS = day_seconds  # type: ignore[misc]
