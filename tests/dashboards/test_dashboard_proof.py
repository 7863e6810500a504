"""Every panel and every alert has data from running gateways."""

from pathlib import Path

import pytest

from tests.dashboards.panel_queries import list_panel_queries
from tests.dashboards.prometheus_server import run_prometheus
from tests.dashboards.proof_gateways import run_proof_gateways
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_for_value


@pytest.mark.thorough
def test_every_panel_has_data(tmp_path: Path, sandbox: RunningSandbox) -> None:
    with run_proof_gateways(tmp_path, sandbox) as proof:
        with run_prometheus(tmp_path / "prometheus", proof.targets) as server, proof.send_requests():
            for query in list_panel_queries():
                wait_for_value(
                    lambda query=query: server.query(query.replace_variables("30s")), bool, f"{query.name} has data"
                )
