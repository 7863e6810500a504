"""Two replicas on one Redis share API keys and rate limits."""

import time
from collections.abc import Iterator

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
