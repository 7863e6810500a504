"""All sellers are out of reach for a reason that passes: told as such, to be asked again, which makes a new job."""

from collections.abc import Iterator

import httpx
import pytest

from tests.api.answers import IMAGES, JOBS, told
from tests.serving import Serving, serving

PROMPT = {"prompt": "a lighthouse", "quality": "low"}
VENDORS = ("runflow", "runapi", "openai")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Of its own: what it learns here of its sellers must be no other test's."""
    with serving(tmp_path_factory.mktemp("nobody")) as running:
        running.vendors.latency(0.0)
        yield running


def generate(gateway: Serving, prompt: str, retry: int = 0) -> httpx.Response:
    return gateway.http.post(IMAGES, json=PROMPT | {"prompt": prompt}, headers={"x-stainless-retry-count": str(retry)})


def told_to_ask_again(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"] == "60"
    assert "x-should-retry" not in answer.headers
    error = told(answer)
    assert (error["code"], error["type"]) == ("sellers_unavailable", "server_error")
    assert "Nothing was bought" in error["message"]


def test_nobody_has_credit_and_whoever_asks_again_when_they_have_is_served(gateway: Serving) -> None:
    for vendor in VENDORS:
        gateway.vendors.balance(vendor, "0")
    first = generate(gateway, "no credit")
    told_to_ask_again(first)
    shown = gateway.http.get(f"{JOBS}/{first.headers['x-igw-job-id']}").json()
    assert (shown["status"], shown["error"]["code"]) == ("failed", "sellers_unavailable")
    assert not gateway.vendors.charges()
    for vendor in VENDORS:
        gateway.vendors.balance(vendor, "100")
    again = generate(gateway, "no credit", retry=1)
    assert again.status_code == 200, again.text
    assert again.headers["x-igw-job-id"] != first.headers["x-igw-job-id"]


@pytest.mark.parametrize("status", [401, 403, 429])
def test_whatever_keeps_all_of_them_from_taking_it(gateway: Serving, status: int) -> None:
    gateway.vendors.fault("status", route="submit", status=status)
    answer = generate(gateway, f"all of them say {status}")
    gateway.vendors.control("DELETE", "/faults")
    told_to_ask_again(answer)
