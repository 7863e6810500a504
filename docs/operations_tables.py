"""Builds the generated tables of `operations.md` and `logs.md`: settings and log events."""

import re
from pathlib import Path

from gateway import events
from gateway.access import budget_events
from gateway.engine import account_events, canary_events, moderation_events
from gateway.events import get_event_name
from gateway.settings import ENV_OPTIONS
from gateway.webhooks import webhook_events

Row = tuple[str, ...]
SETTINGS_HEAD: Row = ("Variable", "Default", "Meaning")
LOG_EVENTS_HEAD: Row = ("`event`", "Fields", "Meaning")


def build_settings_rows() -> list[Row]:
    return [
        (f"`{option.name}`", f"`{option.default}`" if option.default else "none", option.help)
        for option in ENV_OPTIONS.values()
    ]


def build_log_event_rows() -> list[Row]:
    """Lists the log events with their fields. A log line omits fields that are None."""
    return [
        (f"`{get_event_name(kind)}`", ", ".join(kind.__struct_fields__), " ".join((kind.__doc__ or "").split()))
        for module in (events, account_events, webhook_events, budget_events, canary_events, moderation_events)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, events.Event) and not kind.__subclasses__()
    ]


def replace_section(path: Path, name: str, content: str) -> str:
    """Returns the text of the page, with the content between the marks of the section replaced."""
    start_mark, end_mark = f"<!-- {name}: generated -->\n", f"<!-- end of {name} -->"
    pattern = re.compile(f"({re.escape(start_mark)}).*?({re.escape(end_mark)})", re.DOTALL)
    text, replaced = pattern.subn(rf"\g<1>{content.replace(chr(92), chr(92) * 2)}\g<2>", path.read_text())
    if replaced != 1:
        raise ValueError(f"{path.name} has no marks for the generated section {name}")
    return text
