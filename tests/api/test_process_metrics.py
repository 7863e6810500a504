"""Metrics of the process itself: its store, event loop, memory, configuration and version."""

import time
from importlib.metadata import version

from tests.api.error_responses import JOBS_PATH
from tests.harness.gateway_runner import RunningGateway
from tests.harness.wait import wait_until

COMMITS = "igw_store_commits_total"


def test_commits_of_a_job_are_counted_by_result(gateway: RunningGateway) -> None:
    before = gateway.read_metric(COMMITS, outcome="applied")
    headers = {"prefer": "wait=20", "idempotency-key": f"commits-{time.time_ns()}"}
    for _ in range(2):
        answer = gateway.http.post(JOBS_PATH, json={"prompt": "a commit"}, headers=headers)
        assert answer.json()["status"] == "completed"
    # Created, attempt recorded, ticket, images stored; the repeated request finds the job before it would commit.
    assert 3 <= gateway.read_metric(COMMITS, outcome="applied") - before <= 6
    assert gateway.read_metric("igw_store_commit_duration_seconds_sum") > 0
    assert gateway.read_metric(COMMITS, outcome="unavailable") == 0


def test_lag_of_the_event_loop_is_measured_all_the_time(gateway: RunningGateway) -> None:
    before = gateway.read_metric("igw_event_loop_lag_seconds_count")
    wait_until(
        lambda: gateway.read_metric("igw_event_loop_lag_seconds_count") >= before + 3, "the lag is measured three times"
    )


def test_configuration_and_build_are_named(gateway: RunningGateway) -> None:
    config = gateway.http.get("/readyz").json()["config"]["in_force"]
    assert gateway.read_metric("igw_config_info", hash=config) == 1
    assert gateway.read_metric("igw_config_info") == 1, "only one configuration is in force"
    assert gateway.read_metric("igw_build_info", version=version("image-gateway")) == 1
    started_at = gateway.read_metric("process_start_time_seconds")
    assert started_at - 1 <= gateway.read_metric("igw_config_applied_timestamp_seconds") <= time.time()


def test_memory_and_accounts_of_an_idle_gateway(gateway: RunningGateway) -> None:
    for budget in ("requests", "sellers", "images"):
        assert gateway.read_metric("igw_memory_budget_limit_bytes", budget=budget) >= 1 << 20
    wait_until(lambda: gateway.read_metric("igw_memory_budget_used_bytes") == 0, "the memory is released")
    assert gateway.read_metric("igw_upload_disk_used_bytes") == 0
    assert gateway.read_metric("igw_upload_disk_limit_bytes") > 0
    assert gateway.read_metric("igw_account_orders_waiting") == 0
    # Tests of the last minute may have used all three.
    assert gateway.read_metric("igw_retries_available") >= 0
    assert gateway.read_metric("process_open_fds") > 3


def test_store_and_storage_are_usable(gateway: RunningGateway) -> None:
    assert gateway.read_metric("igw_store_takes_writes") == 1
    assert gateway.read_metric("igw_storage_takes_images") == 1


def test_internal_errors_are_zero_from_the_start(gateway: RunningGateway) -> None:
    assert gateway.read_metric("igw_internal_errors_total") == 0
    assert 'igw_internal_errors_total{component="audit"} 0.0' in gateway.http.get("/metrics").text
