"""Rate limits of an API key and of its team: 429 with Retry-After, and both families of headers."""

import re

import httpx
import openai
import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, expect_final_error
from tests.api.job_requests import BODY
from tests.api.limited_clients import expect_rate_limit, open_limited_client
from tests.clients.openai_sdk import make_gateway_client
from tests.harness.gateway_runner import ADMIN_KEY, RunningGateway, make_client
from tests.harness.key_admin import KEYS_PATH, READ_PATH, create_key, is_accepted

WAIT = {"prefer": "wait=30"}
# A structured field (RFC 9651): a list of strings with parameters.
ITEM = r'"[a-z-]+"(?:;[a-z]+=(?:\d+|"[a-z-]+"))+'
LIST_OF_ITEMS = re.compile(rf"{ITEM}(?:, {ITEM})*")


def test_requests_beyond_the_limit_get_429(gateway: RunningGateway) -> None:
    with open_limited_client(gateway, requests_per_minute=2) as client:
        answers = [client.post(IMAGES_PATH, json=BODY) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        error = expect_rate_limit(answers[2])
        assert error["message"].startswith("Rate limit reached: 2 requests per minute for this API key. Retry in ")
        assert error["message"].endswith("You were not charged.")
        remaining = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
        assert remaining == ["1", "0", "0"]
        assert is_accepted(client), "reading is not limited"


def test_headers_describe_every_limit(gateway: RunningGateway) -> None:
    with open_limited_client(gateway, requests_per_minute=60, images_per_minute=30, concurrent_jobs=5) as client:
        headers = client.post(JOBS_PATH, json=BODY | {"n": 2}, headers=WAIT).headers
        assert headers["ratelimit-policy"] == (
            '"key-requests";q=60;w=60, "key-images";q=30;qu="images";w=60, "key-jobs";q=5;qu="concurrent-requests"'
        )
        assert re.fullmatch(r'"key-requests";r=59;t=6\d, "key-images";r=28;t=6\d, "key-jobs";r=5', headers["ratelimit"])
        assert LIST_OF_ITEMS.fullmatch(headers["ratelimit-policy"])
        assert LIST_OF_ITEMS.fullmatch(headers["ratelimit"])
        assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-limit-images"]) == ("60", "30")
        assert headers["x-ratelimit-remaining-images"] == "28"
        assert re.fullmatch(r"1m\ds", headers["x-ratelimit-reset-requests"])
        later = client.get(READ_PATH).headers
        assert (later["x-ratelimit-remaining-requests"], later["x-ratelimit-remaining-images"]) == ("59", "28")


def test_answers_without_limits_or_key_have_no_such_headers(gateway: RunningGateway) -> None:
    for answer in (gateway.http.get(READ_PATH), httpx.get(f"{gateway.url}/livez", trust_env=False)):
        assert not [name for name in answer.headers if "ratelimit" in name]


@pytest.mark.thorough
def test_images_are_limited_by_their_number(gateway: RunningGateway) -> None:
    with open_limited_client(gateway, images_per_minute=3) as client:
        assert client.post(JOBS_PATH, json=BODY | {"n": 2}).status_code in (200, 202)
        expect_rate_limit(client.post(JOBS_PATH, json=BODY | {"n": 2}))
        assert client.post(JOBS_PATH, json=BODY).status_code in (200, 202)
        error = expect_final_error(client.post(JOBS_PATH, json=BODY | {"n": 4}), 400, "invalid_value")
        assert (error["param"], "3 images per minute" in error["message"]) == ("n", True)


def test_concurrent_jobs_are_limited_until_one_ends(gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    with open_limited_client(gateway, concurrent_jobs=1) as client:
        accepted = client.post(JOBS_PATH, json=BODY)
        assert accepted.status_code == 202
        error = expect_rate_limit(client.post(JOBS_PATH, json=BODY))
        assert "1 concurrent job for this API key" in error["message"]
        gateway.sandbox.release_orders()
        assert client.get(accepted.headers["location"], params={"wait": 30}).json()["status"] == "completed"
        assert client.post(JOBS_PATH, json=BODY).status_code == 202


def test_rotated_key_shares_the_limits_of_its_predecessors(gateway: RunningGateway) -> None:
    keys = create_rotated_keys(gateway, requests_per_minute=3)
    for key in keys:
        with make_client(gateway.url, key) as client:
            assert client.post(JOBS_PATH, json=BODY).status_code in (200, 202)
    for key in keys:
        with make_client(gateway.url, key) as client:
            expect_rate_limit(client.post(JOBS_PATH, json=BODY))


def test_rotated_key_shares_the_concurrent_jobs_of_its_predecessors(gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    keys = create_rotated_keys(gateway, concurrent_jobs=1)
    for holder in keys:
        with make_client(gateway.url, holder) as client:
            accepted = client.post(JOBS_PATH, json=BODY)
            assert accepted.status_code == 202
            for key in keys:
                with make_client(gateway.url, key) as other:
                    expect_rate_limit(other.post(JOBS_PATH, json=BODY))
            gateway.sandbox.release_orders()
            assert client.get(accepted.headers["location"], params={"wait": 30}).json()["status"] == "completed"
            gateway.sandbox.hold_orders()
    gateway.sandbox.release_orders()


def create_rotated_keys(gateway: RunningGateway, **limits: int) -> list[str]:
    """Creates a key, its successor, and the successor of that one. All of them are valid."""
    created = create_key(gateway, limits=limits)
    keys = [created["key"]]
    for _ in range(2):
        with make_client(gateway.url, ADMIN_KEY) as admin:
            created = admin.post(f"{KEYS_PATH}/{created['id']}/rotate", json={"overlap": "1h"}).json()
        keys.append(created["key"])
    return keys


def test_repeated_request_attaches_without_a_new_count(gateway: RunningGateway) -> None:
    with open_limited_client(gateway, requests_per_minute=1) as client:
        headers = {"idempotency-key": f"once-{client.headers['authorization'][-8:]}"}
        first, second = (client.post(JOBS_PATH, json=BODY, headers=headers | WAIT) for _ in range(2))
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.json()["id"] == second.json()["id"]
        assert second.headers["idempotent-replayed"] == "true"
        assert second.headers["x-ratelimit-remaining-requests"] == "0"


def test_rejected_body_does_not_count(gateway: RunningGateway) -> None:
    with open_limited_client(gateway, requests_per_minute=1) as client:
        expect_final_error(client.post(JOBS_PATH, json={"prompt": 3}), 400)
        assert client.post(JOBS_PATH, json=BODY).status_code in (200, 202)


def test_openai_sdk_reports_the_limit(gateway: RunningGateway) -> None:
    created = create_key(gateway, limits={"requests_per_minute": 1})
    with openai.OpenAI(api_key=created["key"], base_url=f"{gateway.url}/v1", max_retries=0) as client:
        response = client.images.with_raw_response.generate(prompt="a lighthouse", model="gpt-image-2")
        assert response.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError) as error:
            client.images.generate(prompt="another lighthouse", model="gpt-image-2")
        assert error.value.code == "rate_limit_exceeded"


def test_openai_sdk_waits_and_repeats_the_request(gateway: RunningGateway) -> None:
    """It waits for the five seconds of Retry-After while another job of the key runs."""
    gateway.sandbox.hold_orders()
    created = create_key(gateway, limits={"concurrent_jobs": 1})
    with make_client(gateway.url, created["key"]) as client:
        assert client.post(JOBS_PATH, json=BODY).status_code == 202
    with make_gateway_client(gateway, api_key=created["key"], max_retries=1, release_orders_after=429) as sdk:
        response = sdk.images.with_raw_response.generate(prompt="a second lighthouse", model="gpt-image-2")
        assert (response.status_code, response.retries_taken) == (200, 1)


def test_refusals_are_counted_in_metrics(gateway: RunningGateway) -> None:
    with open_limited_client(gateway, requests_per_minute=1) as client:
        before = gateway.read_metric("igw_rate_limited_requests_total", team="design", owner="key", limit="requests")
        for _ in range(3):
            client.post(JOBS_PATH, json=BODY)
        after = gateway.read_metric("igw_rate_limited_requests_total", team="design", owner="key", limit="requests")
        assert after - before == 2
