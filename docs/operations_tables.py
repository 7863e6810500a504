"""Builds the generated tables of `operations.md`: settings, metrics and log events."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateway import events
from gateway.events import get_event_name
from gateway.settings import ENV_OPTIONS
from gateway.telemetry.gauges import GAUGES
from gateway.telemetry.metrics import Metrics

Row = tuple[str, ...]
SETTINGS_HEAD: Row = ("Variable", "Default", "Meaning")
METRICS_HEAD: Row = ("Metric", "Labels", "Meaning")
LOG_EVENTS_HEAD: Row = ("`event`", "Fields", "Meaning")


def build_settings_rows() -> list[Row]:
    return [
        (f"`{option.name}`", f"`{option.default}`" if option.default else "none", option.help)
        for option in ENV_OPTIONS.values()
    ]


def build_metrics_rows() -> list[Row]:
    """Lists the metrics by their scraped names: counters end in _total."""
    metrics: list[Any] = list(Metrics().registry._collector_to_names)
    counters = [
        (f"{metric._name}{'_total' if metric._type == 'counter' else ''}", metric._labelnames, metric._documentation)
        for metric in metrics
    ]
    gauges = [(name, labels, description) for name, (description, labels) in GAUGES.items()]
    entries: Iterable[tuple[str, tuple[str, ...], str]] = [*counters, *gauges]
    return [(f"`{name}`", ", ".join(labels) or "–", description) for name, labels, description in entries]


def build_log_event_rows() -> list[Row]:
    """Lists the log events with their fields. A log line omits fields that are None."""
    return [
        (f"`{get_event_name(kind)}`", ", ".join(kind.__struct_fields__), " ".join((kind.__doc__ or "").split()))
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, events.Event) and not kind.__subclasses__()
    ]


def replace_sections(path: Path, sections: dict[str, str]) -> str:
    """Returns the text of the page, with the content between its marks replaced."""
    text = path.read_text()
    for name, content in sections.items():
        start_mark, end_mark = f"<!-- {name}: generated -->\n", f"<!-- end of {name} -->"
        pattern = re.compile(f"({re.escape(start_mark)}).*?({re.escape(end_mark)})", re.DOTALL)
        text, replaced = pattern.subn(rf"\g<1>{content.replace(chr(92), chr(92) * 2)}\g<2>", text)
        if replaced != 1:
            raise ValueError(f"{path.name} has no marks for the generated section {name}")
    return text
