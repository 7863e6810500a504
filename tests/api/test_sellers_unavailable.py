"""All sellers refuse for a temporary reason: the error suggests a retry, which creates a new job."""

from collections.abc import Iterator

import httpx
import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, parse_error
from tests.harness.gateway_runner import RunningGateway, run_sandboxed_gateway

BODY = {"prompt": "a lighthouse", "quality": "low"}
VENDORS = ("runflow", "runapi", "openai")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway for this module only, since its sellers' health changes here."""
    with run_sandboxed_gateway(tmp_path_factory.mktemp("sellers_unavailable")) as running:
        running.sandbox.set_latency(0.0)
        yield running


def post_generation(gateway: RunningGateway, prompt: str, retry: int = 0) -> httpx.Response:
    return gateway.http.post(
        IMAGES_PATH, json=BODY | {"prompt": prompt}, headers={"x-stainless-retry-count": str(retry)}
    )


def expect_sellers_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"] == "60"
    assert answer.headers["x-should-retry"] == "true"
    error = parse_error(answer)
    assert (error["code"], error["type"]) == ("sellers_unavailable", "server_error")
    assert "You were not charged" in error["message"]


def test_retry_succeeds_once_the_sellers_have_credit_again(gateway: RunningGateway) -> None:
    for vendor in VENDORS:
        gateway.sandbox.set_balance(vendor, "0")
    first = post_generation(gateway, "no credit")
    expect_sellers_unavailable(first)
    failed_job = gateway.http.get(f"{JOBS_PATH}/{first.headers['x-igw-job-id']}").json()
    assert (failed_job["status"], failed_job["error"]["code"]) == ("failed", "sellers_unavailable")
    assert not gateway.sandbox.list_charges()
    for vendor in VENDORS:
        gateway.sandbox.set_balance(vendor, "100")
    retry = post_generation(gateway, "no credit", retry=1)
    assert retry.status_code == 200, retry.text
    assert retry.headers["x-igw-job-id"] != first.headers["x-igw-job-id"]


@pytest.mark.parametrize("status", [401, 403, 429])
def test_every_temporary_rejection_by_all_sellers_is_503(gateway: RunningGateway, status: int) -> None:
    gateway.sandbox.inject_fault("status", route="submit", status=status)
    answer = post_generation(gateway, f"all of them say {status}")
    gateway.sandbox.call_control_route("DELETE", "/faults")
    expect_sellers_unavailable(answer)
