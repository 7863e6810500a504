"""Shortens the days of all retention options in a gateway of a test."""

from gateway import components
from gateway.api.batches import batch_line_submission
from gateway.config import retention_schema


def shorten_days(day_seconds: float) -> None:
    for module in (components, batch_line_submission, retention_schema):
        vars(module)["DAY_SECONDS"] = day_seconds
