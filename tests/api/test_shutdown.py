"""A gateway that shuts down, or cannot start: clients get a Retry-After, operators a log line that says what to do."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, parse_error
from tests.harness.cli_runner import run_command
from tests.harness.gateway_runner import run_sandboxed_gateway
from tests.harness.wait import wait_for_value, wait_until

BODY = {"prompt": "a lighthouse"}
SERVE = ("serve", "--sandbox", "--port", "0")


def get_startup_problem(log_text: str) -> str:
    """Returns the problem that the startup log names."""
    lines = [json.loads(line) for line in log_text.splitlines()]
    [problem] = [line["problem"] for line in lines if line["event"] == "startup failed"]
    return str(problem)


def test_draining_rejects_new_jobs_and_finishes_running_ones(tmp_path: Path) -> None:
    with run_sandboxed_gateway(tmp_path) as gateway, ThreadPoolExecutor(1) as threads:
        gateway.sandbox.hold_orders()
        running = threads.submit(gateway.http.post, IMAGES_PATH, json=BODY)
        wait_until(lambda: gateway.http.get("/readyz").json()["jobs"], "the job runs")
        gateway.send_signal(signal.SIGTERM)
        readiness = wait_for_value(
            lambda: gateway.http.get("/readyz"), lambda answer: answer.status_code != 200, "/readyz reports draining"
        )
        assert (readiness.status_code, readiness.json()["draining"]) == (503, True)
        for path in (JOBS_PATH, IMAGES_PATH):
            rejected = gateway.http.post(path, json=BODY)
            assert rejected.status_code == 503
            assert parse_error(rejected)["code"] == "draining"
            assert 1 <= int(rejected.headers["retry-after"]) <= 120
            assert rejected.headers["x-should-retry"] == "true", "another replica accepts it, or this one later"
        gateway.sandbox.release_orders()
        assert running.result().status_code == 200
        assert gateway.wait_for_exit() == 0


def test_second_gateway_on_the_same_data_folder_does_not_start(tmp_path: Path) -> None:
    with run_sandboxed_gateway(tmp_path):
        second = run_command(*SERVE, "--data", str(tmp_path / "data"))
    assert second.returncode == 1
    assert "Traceback" not in second.stderr
    assert "gateway.db" in second.stderr


def test_unusable_image_folder_is_reported_at_startup(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("no folder")
    completed = run_command(*SERVE, "--data", str(tmp_path))
    assert completed.returncode == 1
    assert "Traceback" not in completed.stderr
    assert "images cannot be used to store images" in get_startup_problem(completed.stderr)


def test_empty_secret_file_is_reported_at_startup(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    completed = run_command(*SERVE, "--data", str(tmp_path))
    assert completed.returncode == 1
    assert "Traceback" not in completed.stderr
    assert "contains no secret" in get_startup_problem(completed.stderr)
