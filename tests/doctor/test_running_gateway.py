"""`doctor` beside a gateway that runs."""

from collections.abc import Iterator

import pytest

from tests.doctor.doctor_runner import Installation
from tests.harness.answering_server import run_answering_server
from tests.harness.gateway_process import GatewayProcess
from tests.harness.ports import reserve_port


@pytest.fixture
def gateway(installation: Installation) -> Iterator[GatewayProcess]:
    """A gateway of the installation, reachable at its public URL."""
    with GatewayProcess(installation.data.parent, installation.config, installation.environ) as process:
        installation.environ |= {"IGW_PUBLIC_URL": process.url, "IGW_PORT": str(process.port)}
        process.environ |= {"IGW_PUBLIC_URL": process.url}
        process.start()
        yield process


def test_healthy_installation_has_neither_failures_nor_warnings(
    installation: Installation, gateway: GatewayProcess
) -> None:
    gateway.get("/metrics")
    report = installation.run()
    assert report.list_troubles() == []
    assert report.exit_code == 0
    assert f"in use by process {gateway.pid}" in report.get("store").message
    assert f"{gateway.url} is ready" in report.get("gateway").message
    assert report.get("public url").message == f"{gateway.url} leads to a gateway"
    assert report.get("prometheus").message.startswith("/metrics was read ")
    assert "the balance is $" in report.get("seller runapi").message
    assert report.get("seller openai").message == "The key is valid; this seller does not show a balance"
    assert report.get("clock").status == "ok"
    for vendor in ("runflow", "runapi"):
        assert installation.sandbox.list_requests(vendor, "account")
        assert installation.sandbox.list_requests(vendor) == [], "it uses only the free queries of accounts"


def test_unread_metrics_are_a_warning(installation: Installation, gateway: GatewayProcess) -> None:
    finding = installation.run().get("prometheus")
    assert (finding.status, finding.message) == ("warning", "Nothing has read /metrics since the gateway started.")
    assert f"{gateway.url}/metrics" in finding.remedy


def test_unreachable_public_url_fails(installation: Installation, gateway: GatewayProcess) -> None:
    url = f"http://127.0.0.1:{reserve_port()}"
    finding = installation.run(IGW_PUBLIC_URL=url).get("public url")
    assert (finding.status, finding.message) == (
        "failed",
        f"{url} cannot be reached (ConnectError: All connection attempts failed).",
    )


def test_other_server_at_public_url_fails(installation: Installation, gateway: GatewayProcess) -> None:
    finding = installation.run(IGW_PUBLIC_URL=installation.sandbox.url).get("public url")
    assert finding.status == "failed"
    assert "Another server than an image-gateway answers" in finding.message


def test_redirecting_public_url_fails_with_its_target(installation: Installation, gateway: GatewayProcess) -> None:
    with run_answering_server(301, b"") as url:
        finding = installation.run(IGW_PUBLIC_URL=url).get("public url")
    assert (finding.status, finding.message) == ("failed", f"{url} redirects to https://images.example.com/v1/jobs.")


def test_missing_public_url_is_a_warning(installation: Installation, gateway: GatewayProcess) -> None:
    finding = installation.run(IGW_PUBLIC_URL="").get("public url")
    assert finding.status == "warning"
    assert "sellers send no callbacks" in finding.message


def test_callback_url_is_checked_like_the_public_url(installation: Installation, gateway: GatewayProcess) -> None:
    finding = installation.run(IGW_CALLBACK_URL=gateway.url).get("callback url")
    assert (finding.status, finding.message) == ("ok", f"{gateway.url} leads to a gateway")
    unreachable = f"http://127.0.0.1:{reserve_port()}"
    report = installation.run(IGW_CALLBACK_URL=unreachable, IGW_PUBLIC_URL="")
    finding = report.get("callback url")
    assert (finding.status, unreachable in finding.message) == ("failed", True)
    assert report.get("public url").message.endswith("links to images have the local address.")
    finding = installation.run(IGW_CALLBACK_URL=installation.sandbox.url).get("callback url")
    assert (finding.status, "Correct IGW_CALLBACK_URL" in finding.remedy) == ("failed", True)


def test_gateway_with_another_configuration_is_a_warning(installation: Installation, gateway: GatewayProcess) -> None:
    gateway.get("/metrics")
    installation.config.rename(installation.config.with_name("unwatched"))
    installation.config = installation.config.with_name("unwatched")
    installation.change_config("models.yaml", "quality: low", "quality: medium")
    finding = installation.run().get("gateway")
    assert finding.status == "warning"
    assert "The gateway uses configuration " in finding.message


def test_other_server_in_place_of_the_gateway_fails(installation: Installation) -> None:
    finding = installation.run("--url", installation.sandbox.url).get("gateway")
    assert finding.status == "failed"
    assert "is not an image-gateway" in finding.message
