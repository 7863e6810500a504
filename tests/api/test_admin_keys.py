"""Admins create, rotate and revoke API keys over HTTP; keys work at once, and end at once."""

import re
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.api.error_responses import JOBS_PATH, expect_final_error, parse_error
from tests.api.job_requests import BODY
from tests.harness.batch_client import make_line, make_sdk_client, run_batch
from tests.harness.cli_runner import run_command
from tests.harness.gateway_runner import ADMIN_KEY, RunningGateway, make_client
from tests.harness.key_admin import KEYS_PATH, READ_PATH, create_key, is_accepted, open_admin_client
from tests.harness.ports import reserve_port

EVENTS_PATH, TEAMS_PATH = "/v1/admin/events", "/v1/admin/teams"
KEY_FIELDS = {
    *("object", "id", "name", "team", "status", "scopes", "policies", "limits", "budget", "created_at", "expires_at"),
    *("budget", "revoked_at", "last_used_at", "replaces"),
}


@pytest.fixture
def admin(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with open_admin_client(gateway.url) as client:
        yield client


def test_new_key_works_at_once_and_is_shown_once(gateway: RunningGateway, admin: httpx.Client) -> None:
    answer = admin.post(KEYS_PATH, json={"team": "design", "name": "ci", "expires_in": "90d", "policies": ["steady"]})
    created = answer.json()
    assert (answer.status_code, set(created)) == (201, KEY_FIELDS | {"key"})
    assert answer.headers["location"] == f"{KEYS_PATH}/{created['id']}"
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch(rf"igw_{created['id']}_[a-z2-7]{{52}}", created["key"])
    assert (created["scopes"], created["policies"]) == (["generate", "read"], ["steady"])
    assert created["expires_at"] - created["created_at"] == 90 * 86_400
    with make_client(gateway.url, created["key"]) as client:
        job = client.post(JOBS_PATH, json=BODY, headers={"prefer": "wait=30"})
        assert job.status_code == 200
        assert client.get(f"{JOBS_PATH}/{job.json()['id']}").status_code == 200
    secret = created["key"].split("_")[2]
    for path in (KEYS_PATH, f"{KEYS_PATH}/{created['id']}", EVENTS_PATH, TEAMS_PATH):
        assert secret not in admin.get(path).text
    assert secret not in gateway.read_log()


def test_revoked_key_is_rejected_at_once(gateway: RunningGateway, admin: httpx.Client) -> None:
    created = create_key(gateway)
    with make_client(gateway.url, created["key"]) as client:
        assert is_accepted(client)
        revoked = admin.post(f"{KEYS_PATH}/{created['id']}/revoke")
        assert (revoked.status_code, revoked.json()["status"]) == (200, "revoked")
        error = expect_final_error(client.get(READ_PATH), 401, "api_key_revoked")
        assert created["id"] in error["message"]
    assert admin.get(f"{KEYS_PATH}/{created['id']}").json()["status"] == "revoked"


def test_only_the_whole_key_reveals_that_it_ended(gateway: RunningGateway, admin: httpx.Client) -> None:
    created = create_key(gateway)
    admin.delete(f"{KEYS_PATH}/{created['id']}")
    guess = created["key"][:-1] + ("a" if created["key"][-1] != "a" else "b")
    with make_client(gateway.url, guess) as client:
        expect_final_error(client.get(READ_PATH), 401, "invalid_api_key")


def test_expired_key_says_when_it_expired(gateway: RunningGateway) -> None:
    created = create_key(gateway, expires_in="1s")
    time.sleep(1.1)
    with make_client(gateway.url, created["key"]) as client:
        error = expect_final_error(client.get(READ_PATH), 401, "api_key_expired")
    assert "T" in error["message"]


def test_rotated_key_works_beside_its_successor(gateway: RunningGateway, admin: httpx.Client) -> None:
    old = create_key(gateway, name="ci")
    answer = admin.post(f"{KEYS_PATH}/{old['id']}/rotate", json={"overlap": "24h"})
    new = answer.json()
    assert (answer.status_code, new["replaces"], new["name"]) == (201, old["id"], "ci")
    for key in (old["key"], new["key"]):
        with make_client(gateway.url, key) as client:
            assert is_accepted(client)
    listed = {key["id"]: key for key in admin.get(KEYS_PATH, params={"team": "design"}).json()["data"]}
    assert 86_390 < listed[old["id"]]["expires_at"] - time.time() < 86_410
    ended = admin.post(f"{KEYS_PATH}/{new['id']}/rotate", json={"overlap": "0"})
    assert ended.status_code == 201
    with make_client(gateway.url, new["key"]) as client:
        expect_final_error(client.get(READ_PATH), 401, "api_key_expired")
    expect_final_error(admin.post(f"{KEYS_PATH}/{new['id']}/rotate", json={}), 409, "api_key_inactive")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"team": "desing"}, "team"),
        ({}, "team"),
        ({"team": "design", "scopes": ["write"]}, "scopes"),
        ({"team": "design", "scopes": []}, "scopes"),
        ({"team": "design", "expires_in": "1w"}, "expires_in"),
        ({"team": "design", "expires_in": "0"}, "expires_in"),
        ({"team": "design", "policies": ["nothing"]}, "policies"),
        ({"team": "design", "limits": {"images_per_minute": 0}}, "limits.images_per_minute"),
        ({"team": "design", "name": "a\nb"}, "name"),
        ({"team": "design", "secret": "mine"}, "secret"),
    ],
)
def test_invalid_option_is_named(admin: httpx.Client, body: dict[str, object], param: str) -> None:
    answer = admin.post(KEYS_PATH, json=body)
    error = expect_final_error(answer, 400)
    assert error["param"].startswith(param)
    assert "charged" not in error["message"]


def test_misspelled_team_gets_a_suggestion(admin: httpx.Client) -> None:
    assert "design" in parse_error(admin.post(KEYS_PATH, json={"team": "desing"}))["message"]


def test_unknown_key_is_not_found(admin: httpx.Client) -> None:
    for answer in (
        admin.get(f"{KEYS_PATH}/unknown"),
        admin.delete(f"{KEYS_PATH}/unknown"),
        admin.post(f"{KEYS_PATH}/unknown/rotate"),
        admin.post(f"{KEYS_PATH}/unknown/revoke"),
    ):
        expect_final_error(answer, 404, "api_key_not_found")


def test_key_may_request_only_its_policies(gateway: RunningGateway) -> None:
    created = create_key(gateway, policies=["steady"])
    with make_client(gateway.url, created["key"]) as client:
        allowed = client.post(JOBS_PATH, json=BODY | {"policy": "steady"})
        assert allowed.status_code in (200, 202)
        refused = client.post(JOBS_PATH, json=BODY | {"policy": "cheapest"})
        assert expect_final_error(refused, 400, "invalid_value")["param"] == "policy"


@pytest.mark.parametrize(
    ("policies", "advice"), [(["steady"], "use one of: steady."), ([], "Omit it: it may request none.")]
)
def test_batch_and_request_get_the_same_refusal_of_a_policy(
    gateway: RunningGateway, policies: list[str], advice: str
) -> None:
    key = create_key(gateway, policies=policies)["key"]
    with make_client(gateway.url, key) as client, make_sdk_client(gateway.url, key) as sdk:
        refused = client.post(JOBS_PATH, json=BODY | {"policy": "cheapest"})
        message = expect_final_error(refused, 400, "invalid_value")["message"]
        assert advice in message
        batch = run_batch(sdk, [make_line(1, policy="cheapest")])
        assert [error.message for error in (batch.errors and batch.errors.data) or ()] == [
            message.removesuffix(" You were not charged.")
        ]


def test_stored_admin_key_administers_and_reads_nothing_else(gateway: RunningGateway) -> None:
    created = create_key(gateway, team=None, scopes=["admin"])
    with make_client(gateway.url, created["key"]) as client:
        assert client.get(KEYS_PATH).status_code == 200
        expect_final_error(client.get(READ_PATH), 403, "insufficient_scope")
        another = client.post(KEYS_PATH, json={"team": "design"}).json()
        events = client.get(EVENTS_PATH, params={"limit": 1}).json()
    (event,) = events["data"]
    assert (event["action"], event["actor"], event["key_id"]) == ("key_created", created["id"], another["id"])
    assert event["source"] == "127.0.0.1"
    assert events["has_more"] is True


def test_events_are_paged_newest_first(gateway: RunningGateway, admin: httpx.Client) -> None:
    ids = [create_key(gateway)["id"] for _ in range(3)]
    first = admin.get(EVENTS_PATH, params={"limit": 2}).json()
    second = admin.get(EVENTS_PATH, params={"limit": 2, "after": first["last_id"]}).json()
    assert [event["key_id"] for event in (*first["data"], *second["data"])][:3] == ids[::-1]
    assert first["data"][0]["actor"] == "env:IGW_ADMIN_KEY"
    for params in ({"after": "x"}, {"limit": "0"}, {"limit": "many"}):
        expect_final_error(admin.get(EVENTS_PATH, params=params), 400, "invalid_value")


def test_event_names_the_forwarded_address(gateway: RunningGateway, admin: httpx.Client) -> None:
    admin.post(KEYS_PATH, json={"team": "design"}, headers={"x-forwarded-for": "203.0.113.9"})
    assert admin.get(EVENTS_PATH).json()["data"][0]["source"] == "127.0.0.1 for 203.0.113.9"


def test_teams_are_listed_with_limits_and_spend(gateway: RunningGateway, admin: httpx.Client) -> None:
    teams = {team["name"]: team for team in admin.get(TEAMS_PATH).json()["data"]}
    assert teams["marketing"]["budget"]["day"]["limit"] == 50.0
    assert set(teams["design"]["budget"]["month"]) == {"limit", "spent", "held"}
    assert {"design", "marketing", "sandbox"} <= set(teams)


def test_keys_of_the_configuration_in_force_are_counted(admin: httpx.Client) -> None:
    """A sandbox accepts the key of its own team only, not those of teams.yaml."""
    teams = {team["name"]: team["keys"]["configured"] for team in admin.get(TEAMS_PATH).json()["data"]}
    assert {name: count for name, count in teams.items() if count} == {"sandbox": 1}


def test_list_of_keys_has_pages(gateway: RunningGateway, admin: httpx.Client) -> None:
    created = [create_key(gateway, team="marketing")["id"] for _ in range(3)]
    assert [key["team"] for key in admin.get(KEYS_PATH, params={"limit": 1}).json()["data"]] == ["marketing"]
    params: dict[str, str | int] = {"team": "marketing", "limit": 2}
    first = admin.get(KEYS_PATH, params=params).json()
    assert [key["id"] for key in first["data"]] == [created[2], created[1]]
    assert (first["has_more"], first["last_id"]) == (True, created[1])
    second = admin.get(KEYS_PATH, params=params | {"after": first["last_id"]}).json()
    assert second["first_id"] == created[0]
    last = admin.get(KEYS_PATH, params={"team": "marketing", "limit": 1_000, "after": first["last_id"]}).json()
    assert not last["has_more"]


def test_page_of_keys_is_checked(gateway: RunningGateway, admin: httpx.Client) -> None:
    other = create_key(gateway, team="design")["id"]
    for params in ({"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"after": "nope"}):
        error = expect_final_error(admin.get(KEYS_PATH, params=params), 400, "invalid_value")
        assert error["param"] in params
    error = expect_final_error(admin.get(KEYS_PATH, params={"team": "marketing", "after": other}), 400, "invalid_value")
    assert error["param"] == "after"


@pytest.mark.parametrize("path", [KEYS_PATH, EVENTS_PATH, TEAMS_PATH])
def test_admin_api_needs_an_admin_key(gateway: RunningGateway, path: str) -> None:
    error = expect_final_error(gateway.http.get(path), 403, "insufficient_scope")
    assert "admin" in error["message"]
    expect_final_error(httpx.get(f"{gateway.url}{path}", trust_env=False), 401, "missing_api_key")
    with make_client(gateway.url, ADMIN_KEY + "x") as client:
        expect_final_error(client.get(path), 401, "invalid_api_key")


def test_admin_key_of_the_configuration_cannot_order(gateway: RunningGateway, admin: httpx.Client) -> None:
    answer = admin.post(JOBS_PATH, json=BODY)
    assert expect_final_error(answer, 403, "insufficient_scope")["message"].endswith("You were not charged.")
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="generate"'


def test_last_use_is_saved_when_the_gateway_stops(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("gateway")
    with RunningGateway(folder, ports=("--port", str(reserve_port()))) as gateway:
        gateway.start()
        created = create_key(gateway)
        with make_client(gateway.url, created["key"]) as client:
            assert is_accepted(client)
        gateway.stop()
        gateway.start()
        with open_admin_client(gateway.url) as admin, make_client(gateway.url, created["key"]) as client:
            assert time.time() - admin.get(f"{KEYS_PATH}/{created['id']}").json()["last_used_at"] < 60
            assert is_accepted(client), "the key outlives a restart"


def test_command_uses_a_running_gateway(gateway: RunningGateway) -> None:
    """SQLite belongs to the gateway while it runs."""
    options = ("--url", gateway.url, "--admin-key", ADMIN_KEY)
    created = run_command("keys", "new", "design", "--name", "by command", *options)
    assert created.returncode == 0, created.stderr
    key = created.stdout.strip()
    with make_client(gateway.url, key) as client:
        assert is_accepted(client)
    assert "by command" in run_command("keys", "list", *options).stdout
    assert run_command("keys", "revoke", key.split("_")[1], *options).returncode == 0
    with make_client(gateway.url, key) as client:
        expect_final_error(client.get(READ_PATH), 401, "api_key_revoked")
    refused = run_command("keys", "list", "--url", gateway.url, "--admin-key", key)
    assert (refused.returncode, "revoked" in refused.stderr) == (1, True)
    local = run_command("keys", "list", IGW_DATA=str(gateway.folder / "data"))
    assert (local.returncode, "--url URL" in local.stderr) == (1, True)
