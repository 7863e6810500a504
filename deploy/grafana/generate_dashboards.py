"""Generates Grafana's JSON of all dashboards; `--check` only compares."""

import sys
from pathlib import Path

from dashboard_builder import render_dashboard
from jobs_dashboard import JOBS
from overview_dashboard import OVERVIEW
from process_dashboard import PROCESS
from sellers_dashboard import SELLERS
from spend_dashboard import SPEND

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS = (OVERVIEW, SPEND, SELLERS, JOBS, PROCESS)


def main() -> int:
    texts = {FOLDER / f"{dashboard.uid}.json": render_dashboard(dashboard) for dashboard in DASHBOARDS}
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    unknown = sorted(set(FOLDER.glob("*.json")) - set(texts))
    if "--check" in sys.argv[1:]:
        for path in (*stale, *unknown):
            sys.stderr.write(f"{path.name} is out of date: run `make docs`\n")
        return 1 if stale or unknown else 0
    for path in stale:
        path.write_text(texts[path])
    for path in unknown:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
