"""Shortens the days of all retention options in a gateway of a test."""

import gateway.components
from gateway.config import retention_schema


def shorten_days(day_seconds: float) -> None:
    gateway.components.DAY_SECONDS = day_seconds  # type: ignore[misc]
    retention_schema.DAY_SECONDS = day_seconds
