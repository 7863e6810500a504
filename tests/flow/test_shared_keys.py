"""Two replicas on one Redis share API keys and rate limits."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.flow.flow_config import GatewaySetup
from tests.flow.gateway_on_store import run_replicas
from tests.flow.order_flow import FlowGateway
from tests.harness.gateway_runner import ADMIN_KEY, make_client
from tests.harness.key_admin import KEYS_PATH, READ_PATH, is_accepted
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS
from tests.harness.wait import wait_until

# A change takes effect everywhere within this time.
EFFECT_SECONDS = 5.0
TEAM, BODY = "flow", {"prompt": "a lighthouse", "quality": "low"}
SETUP = GatewaySetup(timing=FAST_TIMINGS, environ={"IGW_ADMIN_KEY": ADMIN_KEY})


@pytest.fixture(scope="module")
def replicas(
    sandbox_process: RunningSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FlowGateway, FlowGateway]]:
    with run_replicas(2, tmp_path_factory.mktemp("pair"), sandbox_process, SETUP) as ([first, second], _):
        yield first, second


def create_key(gateway: FlowGateway, **options: object) -> tuple[str, str]:
    """Creates a key at one replica. Returns its id and the key."""
    with make_client(gateway.url, ADMIN_KEY) as admin:
        answer = admin.post(KEYS_PATH, json={"team": TEAM, **options})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], answer.json()["key"]


def get_remaining(client: httpx.Client) -> str:
    return client.get(READ_PATH).headers["x-ratelimit-remaining-requests"]


def test_new_key_works_at_the_other_replica_at_once(replicas: tuple[FlowGateway, FlowGateway]) -> None:
    first, second = replicas
    for _ in range(5):
        _, key = create_key(first)
        with make_client(second.url, key) as client:
            assert is_accepted(client)


def test_revoked_key_ends_at_the_other_replica_within_seconds(replicas: tuple[FlowGateway, FlowGateway]) -> None:
    first, second = replicas
    key_id, key = create_key(first)
    with make_client(second.url, key) as client, make_client(first.url, ADMIN_KEY) as admin:
        assert is_accepted(client)
        assert admin.delete(f"{KEYS_PATH}/{key_id}").status_code == 200
        revoked_at = time.monotonic()
        wait_until(lambda: not is_accepted(client), "the key has ended", timeout_seconds=60)
        assert time.monotonic() - revoked_at < EFFECT_SECONDS


def change_key(gateway: FlowGateway, key_id: str, **changes: Any) -> None:
    with make_client(gateway.url, ADMIN_KEY) as admin:
        answer = admin.patch(f"{KEYS_PATH}/{key_id}", json=changes)
    assert answer.status_code == 200, answer.text


def order(client: httpx.Client) -> int:
    """Orders an image, and returns the status of the response after the job has ended."""
    return client.post("/v1/jobs", json=BODY, headers={"prefer": "wait=30"}).status_code


def test_changed_budget_applies_at_the_other_replica_within_seconds(replicas: tuple[FlowGateway, FlowGateway]) -> None:
    first, second = replicas
    key_id, key = create_key(first)
    with make_client(second.url, key) as client:
        assert order(client) == 200
        for amount, status in (("0.000001", 429), ("5.00", 200)):
            change_key(first, key_id, budget={"day": amount})
            changed_at = time.monotonic()
            wait_until(lambda: order(client) == status, f"the response is {status}", timeout_seconds=60)  # noqa: B023
            assert time.monotonic() - changed_at < EFFECT_SECONDS
        change_key(first, key_id, budget={"day": None, "lifetime": "0.000001"})
        wait_until(lambda: order(client) == 429, "the budget is exceeded", timeout_seconds=60)
        message = client.post("/v1/jobs", json=BODY).json()["error"]["message"]
        assert "this API key has $0.00 of $0.000001 left" in message


def test_simultaneous_changes_at_both_replicas_all_apply(replicas: tuple[FlowGateway, FlowGateway]) -> None:
    key_id, _ = create_key(replicas[0])
    names = ("requests_per_minute", "images_per_minute", "concurrent_jobs")
    changes: list[dict[str, Any]] = [{"budget": {window: "5.00"}} for window in ("day", "week", "month", "lifetime")]
    changes += [{"limits": {name: 7}} for name in names]
    with ThreadPoolExecutor(len(changes)) as pool:
        list(pool.map(lambda item: change_key(replicas[item[0] % 2], key_id, **item[1]), enumerate(changes)))
    with make_client(replicas[1].url, ADMIN_KEY) as admin:
        changed = admin.get(f"{KEYS_PATH}/{key_id}").json()
        events = admin.get("/v1/admin/events").json()["data"]
    assert changed["budget"] == dict.fromkeys(("day", "week", "month", "lifetime"), 5.0)
    assert changed["limits"] == dict.fromkeys(names, 7)
    actions = [event["action"] for event in events if event["key_id"] == key_id]
    assert actions == ["key_changed"] * len(changes) + ["key_created"]


@pytest.mark.thorough
def test_replicas_share_a_rate_limit(replicas: tuple[FlowGateway, FlowGateway]) -> None:
    _, key = create_key(replicas[0], limits={"requests_per_minute": 12})
    with make_client(replicas[0].url, key) as first, make_client(replicas[1].url, key) as second:
        accepted = 0
        while accepted < 12:
            statuses = [client.post("/v1/jobs", json=BODY).status_code for client in (first, second)]
            assert set(statuses) <= {202, 429}
            accepted += statuses.count(202)
            remaining = {str(max(0, 12 - accepted))}
            wait_until(
                lambda: {get_remaining(client) for client in (first, second)} == remaining,  # noqa: B023
                "both replicas have the count",
            )
        assert accepted <= 13, "between two exchanges each replica may admit one request"
        assert [client.post("/v1/jobs", json=BODY).status_code for client in (first, second)] == [429, 429]
        assert {get_remaining(client) for client in (first, second)} == {"0"}
