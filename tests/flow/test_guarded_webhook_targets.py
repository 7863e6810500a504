"""Targets of webhooks that admins add never lead into the network of the operator: two replicas on one Redis."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flow.flow_config import OTHER_TEAM_KEY, GatewaySetup
from tests.flow.gateway_on_store import run_replicas
from tests.flow.order_flow import FlowGateway
from tests.flow.public_site import OTHER_HOST_NAME, PUBLIC_ADDRESS, PublicSite, run_public_site
from tests.harness.gateway_runner import ADMIN_KEY
from tests.harness.key_admin import open_admin_client
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

TARGETS, DELIVERIES = "/v1/admin/webhooks", "/v1/webhooks/deliveries"
TEAM = "other-team"
TIMING = change_timing(
    FAST_TIMINGS,
    webhooks={"interval_seconds": 0.5, "request_timeout_seconds": 5.0},
    connections={"lookup_cache_ttl_seconds": 0.0},
)
SETUP = GatewaySetup(timing=TIMING, environ={"IGW_ADMIN_KEY": ADMIN_KEY})
BLOCKED = ("address_blocked", None)
PRIVATE_ADDRESSES = (
    *(["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["100.64.0.1"], ["0.0.0.1"]),
    *(["::1"], ["fd00::1"], ["::ffff:10.0.0.1"], ["64:ff9b::a00:1"]),
    [PUBLIC_ADDRESS, "192.168.0.1"],
)


class TargetAddresses:
    """The addresses to which the gateways resolve the name of a target."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set_addresses([PUBLIC_ADDRESS])

    def set_addresses(self, addresses: Sequence[str]) -> None:
        new_file = self.file.with_suffix(".new")
        new_file.write_text(json.dumps({OTHER_HOST_NAME: addresses}))
        new_file.replace(self.file)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublicSite]:
    with run_public_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def target_addresses(tmp_path_factory: pytest.TempPathFactory) -> TargetAddresses:
    return TargetAddresses(tmp_path_factory.mktemp("names") / "names.json")


@pytest.fixture(scope="module")
def replicas(
    site: PublicSite,
    target_addresses: TargetAddresses,
    sandbox_process: RunningSandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[FlowGateway]]:
    setup = site.add_to_setup(SETUP, target_addresses.file)
    with run_replicas(2, tmp_path_factory.mktemp("replicas"), sandbox_process, setup) as (gateways, _):
        yield gateways


@pytest.fixture
def admins(
    replicas: list[FlowGateway], site: PublicSite, target_addresses: TargetAddresses
) -> Iterator[list[httpx.Client]]:
    """A client of the admin API of each replica. The targets of a test are removed after it."""
    target_addresses.set_addresses([PUBLIC_ADDRESS])
    site.webhooks.clear()
    with open_admin_client(replicas[0].url) as first, open_admin_client(replicas[1].url) as second:
        yield [first, second]
        for target in first.get(TARGETS).raise_for_status().json()["data"]:
            first.delete(f"{TARGETS}/{target['id']}").raise_for_status()


def add_target(admin: httpx.Client, url: str) -> str:
    answer = admin.post(TARGETS, json={"team": TEAM, "url": url})
    assert answer.status_code == 201, answer.text
    return f"{TARGETS}/{answer.json()['id']}"


def send_test(admin: httpx.Client, target: str) -> tuple[str, int | None]:
    """Sends a test to a target. Returns the outcome and the status of its first attempt."""
    answer = admin.post(f"{target}/test")
    assert answer.status_code == 202, answer.text
    return wait_for_attempt(admin, answer.headers["location"])


def wait_for_attempt(client: httpx.Client, delivery: str, count: int = 1, **options: Any) -> tuple[str, int | None]:
    def read_attempts() -> list[dict[str, Any]]:
        attempts: list[dict[str, Any]] = client.get(delivery, **options).raise_for_status().json()["attempts"]
        return attempts if len(attempts) >= count else []

    attempt = wait_until(read_attempts, "the webhook has an attempt")[count - 1]
    return attempt["outcome"], attempt["status"]


@pytest.mark.parametrize("addresses", PRIVATE_ADDRESSES, ids=" and ".join)
def test_target_whose_name_leads_to_a_private_address_gets_nothing(
    admins: list[httpx.Client], site: PublicSite, target_addresses: TargetAddresses, addresses: list[str]
) -> None:
    target_addresses.set_addresses(addresses)
    target = add_target(admins[0], f"https://{OTHER_HOST_NAME}/hook")
    assert [send_test(admin, target) for admin in admins] == [BLOCKED] * 2
    assert site.webhooks == []


@pytest.mark.parametrize(
    "url", ["https://localhost/", "https://10.0.0.1/", "https://[::1]/", "https://metadata.google.internal/"]
)
def test_target_that_is_changed_to_a_private_address_gets_nothing(
    admins: list[httpx.Client], site: PublicSite, target_addresses: TargetAddresses, url: str
) -> None:
    target = add_target(admins[0], f"https://{OTHER_HOST_NAME}/hook")
    assert send_test(admins[1], target) == ("delivered", 204)
    admins[0].patch(target, json={"url": url}).raise_for_status()
    assert send_test(admins[1], target)[0] in ("address_blocked", "name_not_found")
    assert len(site.webhooks) == 1


def test_name_that_changes_to_a_private_address_gets_nothing_more(
    admins: list[httpx.Client], replicas: list[FlowGateway], site: PublicSite, target_addresses: TargetAddresses
) -> None:
    """DNS rebinding: neither tests, nor webhooks of jobs, nor repetitions of delivered ones are sent."""
    target = add_target(admins[0], f"https://{OTHER_HOST_NAME}/hook")
    tests = [admin.post(f"{target}/test").headers["location"] for admin in admins]
    assert [wait_for_attempt(admins[0], test) for test in tests] == [("delivered", 204)] * 2
    target_addresses.set_addresses(["127.0.0.1"])
    assert [send_test(admin, target) for admin in admins] == [BLOCKED] * 2
    own_key = {"headers": {"authorization": f"Bearer {OTHER_TEAM_KEY}"}}
    job = replicas[1].post_job({"prompt": "a lighthouse", "quality": "low"}, OTHER_TEAM_KEY).json()
    assert job["status"] == "completed"

    def find_delivery() -> str | None:
        deliveries = admins[0].get(DELIVERIES, **own_key).raise_for_status().json()["data"]
        return next((delivery["id"] for delivery in deliveries if delivery["job"] == job["id"]), None)

    delivery = wait_until(find_delivery, "the job has a webhook")
    assert wait_for_attempt(admins[0], f"{DELIVERIES}/{delivery}", **own_key) == BLOCKED
    admins[1].post(f"{tests[0]}/redeliver", **own_key).raise_for_status()
    assert wait_for_attempt(admins[0], tests[0], 2) == BLOCKED
    assert len(site.webhooks) == 2
    target_addresses.set_addresses([PUBLIC_ADDRESS])
    admins[1].post(f"{DELIVERIES}/{delivery}/redeliver", **own_key).raise_for_status()
    wait_until(lambda: len(site.webhooks) >= 3, "the webhook of the job arrives once its target is public")


def test_redirect_to_a_private_address_is_not_followed(admins: list[httpx.Client], site: PublicSite) -> None:
    site.add_page("/moved", status=307, location="https://127.0.0.1/")
    site.add_page("/moved-here", status=308, location=site.make_url("/followed"))
    for path, status in (("/moved", 307), ("/moved-here", 308)):
        target = add_target(admins[0], site.make_url(path))
        assert send_test(admins[1], target) == ("redirected", status)
    assert {webhook.path for webhook in site.webhooks} == {"/moved", "/moved-here"}
