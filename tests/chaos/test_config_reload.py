"""Configuration reload by file change and SIGHUP: complete or not at all, without disturbing running jobs."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos import chaos_config
from tests.chaos.chaos_config import replace_text
from tests.chaos.persistent_clients import post_job
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until


@pytest.fixture
def config_folder(tmp_path: Path, sandbox: RunningSandbox) -> Path:
    return chaos_config.write_config(tmp_path / "config", sandbox.url)


@pytest.fixture
def gateway(tmp_path: Path, config_folder: Path) -> Iterator[GatewayProcess]:
    with run_replica(tmp_path / "gateway", config_folder) as running:
        yield running


def get_config_state(gateway: GatewayProcess) -> Any:
    return gateway.get("/readyz").json()["config"]


def wait_for_reload(gateway: GatewayProcess, before: str) -> Any:
    return wait_until(
        lambda: (state := get_config_state(gateway))["in_force"] != before and state,
        "the change is in force",
    )


def test_changed_file_is_reloaded_automatically(gateway: GatewayProcess, config_folder: Path) -> None:
    before = get_config_state(gateway)["in_force"]
    replace_text(config_folder / "policies.yaml", "default: any", "default: runapi")
    assert wait_for_reload(gateway, before)["last_reload"] == "applied"
    with gateway.make_client() as client:
        job = client.post("/v1/jobs", json={"prompt": "a lighthouse"}, headers={"prefer": "wait=30"}).json()
    assert [image["seller"] for image in job["images"]] == ["runapi"]


def test_sighup_reloads_an_unwatched_configuration(gateway: GatewayProcess, config_folder: Path) -> None:
    before = get_config_state(gateway)["in_force"]
    replace_text(config_folder / "gateway.yaml", "watch: true", "watch: false")
    before = wait_for_reload(gateway, before)["in_force"]
    replace_text(config_folder / "policies.yaml", "default: any", "default: runapi")
    for _ in range(50):
        assert get_config_state(gateway)["in_force"] == before
    gateway.send_signal(signal.SIGHUP)
    assert wait_for_reload(gateway, before)["last_reload"] == "applied"


@pytest.mark.parametrize("trigger", ["file", "signal"])
def test_invalid_file_is_reported_and_the_old_configuration_stays(
    gateway: GatewayProcess, config_folder: Path, trigger: str
) -> None:
    if trigger == "signal":
        before = get_config_state(gateway)["in_force"]
        replace_text(config_folder / "gateway.yaml", "watch: true", "watch: false")
        wait_for_reload(gateway, before)
    before = get_config_state(gateway)["in_force"]
    replace_text(config_folder / "policies.yaml", "default: any", "default: missing")
    if trigger == "signal":
        gateway.send_signal(signal.SIGHUP)
    config_state = wait_until(
        lambda: (state := get_config_state(gateway))["last_reload"] == "rejected" and state,
        "the configuration is rejected",
    )
    assert config_state["in_force"] == before
    assert len(config_state["problems"]) == 1
    assert "policies.yaml:" in config_state["problems"][0]
    assert gateway.read_metric("igw_config_last_reload_successful") == 0
    assert gateway.get("/readyz").status_code == 200
    wait_until(
        lambda: "configuration rejected" in gateway.read_log() and "policies.yaml" in gateway.read_log(),
        "the log reports the rejected file",
    )
    with gateway.make_client() as client:
        assert post_job(client, "key", "any", 30).json()["status"] == "completed"
    replace_text(config_folder / "policies.yaml", "default: missing", "default: any")
    if trigger == "signal":
        gateway.send_signal(signal.SIGHUP)
    wait_until(
        lambda: get_config_state(gateway)["last_reload"] == "applied",
        "the repaired configuration is applied",
    )
    assert get_config_state(gateway)["problems"] == []
    assert gateway.read_metric("igw_config_last_reload_successful") == 1


def test_rule_that_never_matches_is_warned_about_at_start_and_after_a_reload(
    tmp_path: Path, config_folder: Path
) -> None:
    policies = config_folder / "policies.yaml"
    rules = "rules: [{when: {}, use: any}, {when: {team: chaos}, use: runapi}]"
    policies.write_text(f"{policies.read_text()}{rules}\n")
    with run_replica(tmp_path / "gateway", config_folder) as gateway:
        wait_until(lambda: len(_list_config_warnings(gateway)) == 1, "the log has the warning")
        before = get_config_state(gateway)["in_force"]
        replace_text(policies, "{team: chaos}", "{team: other-team}")
        wait_for_reload(gateway, before)
        wait_until(lambda: len(_list_config_warnings(gateway)) == 2, "the log has the warning again")
        message = "rules[1]: Never matches: rule 1 matches all its requests first"
        assert all(message in warning for warning in _list_config_warnings(gateway))


def _list_config_warnings(gateway: GatewayProcess) -> list[str]:
    lines = [line for line in gateway.read_log_lines() if line["event"] == "configuration warning"]
    assert all(line["level"] == "warning" for line in lines)
    return [line["warning"] for line in lines]


def test_missing_config_folder_keeps_the_old_configuration(gateway: GatewayProcess, config_folder: Path) -> None:
    """The whole folder is missing for a while, as during a remount."""
    before = get_config_state(gateway)["in_force"]
    config_folder.rename(config_folder.with_name("elsewhere"))
    gateway.send_signal(signal.SIGHUP)
    wait_until(
        lambda: get_config_state(gateway)["last_reload"] == "rejected",
        "the configuration is rejected",
    )
    with gateway.make_client() as client:
        assert post_job(client, "key", "any", 30).json()["status"] == "completed"
    config_folder.with_name("elsewhere").rename(config_folder)
    wait_until(
        lambda: get_config_state(gateway)["last_reload"] == "applied",
        "the configuration is applied again",
    )
    assert get_config_state(gateway)["in_force"] == before


def start_ticketed_and_unanswered_jobs(gateway: GatewayProcess, sandbox: RunningSandbox) -> list[str]:
    """Starts four jobs with tickets, and four whose orders have no response yet. They continue when released."""
    sandbox.hold_orders(vendor="runapi")
    with gateway.make_client() as client:
        jobs = [post_job(client, f"ticketed-{number}", "runapi").json()["id"] for number in range(4)]
        wait_until(lambda: all(_has_ticket(client, job) for job in jobs), "all jobs have a ticket")
        sandbox.hold_responses("runapi", times=4)
        jobs += [post_job(client, f"slow-{number}", "runapi").json()["id"] for number in range(4)]
        wait_until(lambda: len(sandbox.list_requests("runapi", "submit")) == 8, "all orders reached the seller")
        assert not any(_has_ticket(client, job) for job in jobs[4:])
    return jobs


def _has_ticket(client: httpx.Client, job: str) -> bool:
    states = [attempt["state"] for attempt in client.get(f"/v1/jobs/{job}").json()["attempts"]]
    return states == ["ticketed"]


def wait_for_jobs(gateway: GatewayProcess, jobs: list[str]) -> list[str]:
    with gateway.make_client() as client:
        return [client.get(f"/v1/jobs/{job}?wait=30").json()["status"] for job in jobs]


def test_removed_seller_finishes_its_orders_and_gets_no_new_ones(
    gateway: GatewayProcess, config_folder: Path, sandbox: RunningSandbox
) -> None:
    jobs, before = start_ticketed_and_unanswered_jobs(gateway, sandbox), get_config_state(gateway)["in_force"]
    (config_folder / "offers" / "runapi.yaml").unlink()
    replace_text(config_folder / "policies.yaml", "  runapi: {rank: listed, sellers: [runapi]}\n", "")
    replace_text(
        config_folder / "policies.yaml",
        "sellers: [runflow-runs, runapi, openai, runflow-run]",
        "sellers: [runflow-runs]",
    )
    replace_text(config_folder / "teams.yaml", "runapi, ", "")
    wait_for_reload(gateway, before)
    with gateway.make_client() as client:
        assert post_job(client, "late", "runapi").status_code == 400
        later_job = post_job(client, "later", "any", 30).json()
    assert [image["seller"] for image in later_job["images"]] == ["runflow-runs"]
    sandbox.release_orders()
    assert wait_for_jobs(gateway, jobs) == ["completed"] * 8
    assert len(sandbox.list_requests("runapi", "submit")) == 8
    assert len(sandbox.list_charges("runapi")) == 8


def use_secret_file(
    gateway: GatewayProcess, tmp_path: Path, config_folder: Path, sandbox: RunningSandbox, text: str | None
) -> Path:
    """Lets RunAPI's account read its key from a file, which is missing without a text. Returns the file."""
    secret, before = tmp_path / "runapi.key", get_config_state(gateway)["in_force"]
    if text is not None:
        secret.write_text(text)
    chaos_config.write_config(config_folder, sandbox.url, runapi_key_ref=f"file:{secret}")
    wait_for_reload(gateway, before)
    return secret


def test_account_with_a_deleted_secret_finishes_its_orders(
    gateway: GatewayProcess, tmp_path: Path, config_folder: Path, sandbox: RunningSandbox
) -> None:
    secret = use_secret_file(gateway, tmp_path, config_folder, sandbox, "sk-sandbox\n")
    jobs = start_ticketed_and_unanswered_jobs(gateway, sandbox)
    secret.unlink()
    gateway.send_signal(signal.SIGHUP)
    wait_until(lambda: _is_rejected(gateway), "the account gets no new orders")
    sandbox.release_orders()
    assert wait_for_jobs(gateway, jobs) == ["completed"] * 8
    wait_until(
        lambda: len(sandbox.list_charges("runapi")) == len(sandbox.list_requests("runapi", "submit")),
        "each order is charged once, those of jobs accepted before the reload included",
    )


def test_rotated_secret_file_is_used_without_a_restart(
    gateway: GatewayProcess, tmp_path: Path, config_folder: Path, sandbox: RunningSandbox
) -> None:
    secret = use_secret_file(gateway, tmp_path, config_folder, sandbox, None)
    wait_until(lambda: _is_rejected(gateway), "the account without a key gets no orders")
    message = f"file:{secret} not found: the account is disabled"
    wait_until(lambda: message in gateway.read_log(), "the log reports the missing secret")
    secret.write_text("sk-sandbox\n")
    wait_until(lambda: not _is_rejected(gateway), "the account gets orders")
    with gateway.make_client() as client:
        assert post_job(client, "key", "runapi", 30).json()["status"] == "completed"


def test_rotated_key_closes_the_circuit_breaker_of_its_account(
    gateway: GatewayProcess, tmp_path: Path, config_folder: Path, sandbox: RunningSandbox
) -> None:
    secret = use_secret_file(gateway, tmp_path, config_folder, sandbox, "sk-revoked\n")
    with gateway.make_client() as client:
        assert post_job(client, "key", "runapi", 30).json()["status"] == "failed"
        assert not _is_healthy(gateway, "runapi")
        secret.write_text("sk-sandbox\n")
        wait_until(lambda: _is_healthy(gateway, "runapi"), "the account is healthy again")
        assert post_job(client, "next-key", "runapi", 30).json()["status"] == "completed"


def _is_healthy(gateway: GatewayProcess, account: str) -> bool:
    return gateway.read_metric("igw_account_circuit_breaker_state", account=account) == 0


def _is_rejected(gateway: GatewayProcess) -> bool:
    with gateway.make_client() as client:
        return post_job(client, f"late-{time.monotonic()}", "runapi").status_code == 400
