"""Hides the packages of the extra `otel` from a gateway."""

import sys


def hide_opentelemetry() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        del sys.modules[name]
    # Python's import treats it as not installed.
    sys.modules["opentelemetry"] = None  # type: ignore[assignment]
