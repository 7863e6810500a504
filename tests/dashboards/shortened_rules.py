"""The shipped rules with shorter times, so that a test need not wait for hours. The shipped file is not changed."""

import re
from typing import Any

import yaml

from tests.dashboards.alert_rules import RULE_FILES

WINDOWS = {
    **{"15s": "1s", "1m": "3s", "2m": "5s", "5m": "10s", "10m": "10s", "15m": "10s"},
    **{"30m": "15s", "1h": "20s", "6h": "25s", "1d": "30s", "3d": "30s"},
}
# Times that alerts compare with.
THRESHOLDS = {
    'le="120.0"': 'le="5.0"',
    "max(igw_due_lag_seconds) > 60": "max(igw_due_lag_seconds) > 3",
    "(igw_webhook_lag_seconds[5m])) > 300": "(igw_webhook_lag_seconds[5m])) > 6",
    "(igw_store_reading_age_seconds) > 30": "(igw_store_reading_age_seconds) > 5",
    "(igw_replica_heartbeat_age_seconds) > 60": "(igw_replica_heartbeat_age_seconds) > 20",
}


def read_shortened_rules() -> dict[str, Any]:
    texts = [path.read_text() for path in RULE_FILES]
    assert all(any(threshold in text for text in texts) for threshold in THRESHOLDS), "a rule has changed"
    return {"groups": [group for text in texts for group in yaml.safe_load(shorten_times(text))["groups"]]}


def shorten_times(text: str) -> str:
    for threshold, shorter in THRESHOLDS.items():
        text = text.replace(threshold, shorter)
    text = re.sub(r"\bfor: \w+", "for: 2s", text)
    return re.sub(r"(?<=[\[:])(\d+[smhd])(?=[\]:])|(?<=offset )(\d+[smhd])", _shorten_window, text)


def _shorten_window(match: "re.Match[str]") -> str:
    return WINDOWS[match[0]]
