"""The parts of the page for operators that follow from the code: settings, metrics and the lines of the log."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateway.events import Event
from gateway.settings import OPTIONS
from gateway.telemetry.gauges import GAUGES
from gateway.telemetry.logs import words_of
from gateway.telemetry.metrics import Metrics

Row = tuple[str, ...]
SETTINGS_HEAD: Row = ("Variable", "Without it", "What it does")
METRICS_HEAD: Row = ("Metric", "Labels", "What it counts")
LINES_HEAD: Row = ("`event`", "Fields", "What happened")


def settings_rows() -> list[Row]:
    return [
        (f"`{option.name}`", f"`{option.default}`" if option.default else "none", option.help)
        for option in OPTIONS.values()
    ]


def metrics_rows() -> list[Row]:
    """As they are scraped: counters end in _total."""
    metrics: list[Any] = list(Metrics().registry._collector_to_names)
    counted = [
        (f"{one._name}{'_total' if one._type == 'counter' else ''}", one._labelnames, one._documentation)
        for one in metrics
    ]
    looked_up = [(name, labels, words) for name, (words, labels) in GAUGES.items()]
    found: Iterable[tuple[str, tuple[str, ...], str]] = [*counted, *looked_up]
    return [(f"`{name}`", ", ".join(labels) or "–", words) for name, labels, words in found]


def lines_rows() -> list[Row]:
    """A field that is nothing is left out of its line."""
    return [
        (f"`{words_of(kind)}`", ", ".join(kind.__struct_fields__), " ".join((kind.__doc__ or "").split()))
        for kind in Event.__subclasses__()
    ]


def with_sections(path: Path, sections: dict[str, str]) -> str:
    """The page as it is, but for what stands between its marks."""
    text = path.read_text()
    for name, content in sections.items():
        begins, ends = f"<!-- {name}: generated -->\n", f"<!-- end of {name} -->"
        pattern = re.compile(f"({re.escape(begins)}).*?({re.escape(ends)})", re.DOTALL)
        text, times = pattern.subn(rf"\g<1>{content.replace(chr(92), chr(92) * 2)}\g<2>", text)
        if times != 1:
            raise ValueError(f"{path.name} has no place for {name}")
    return text
