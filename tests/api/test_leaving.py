"""A gateway that is going, or whose place is taken: callers are told when to ask again, operators what to do."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.api.answers import IMAGES, JOBS, told
from tests.serving import ROOT, serving

PROMPT = {"prompt": "a lighthouse"}


def problem(said: str) -> str:
    """What kept it from starting, as its log says."""
    lines = [json.loads(line) for line in said.splitlines()]
    [found] = [line["problem"] for line in lines if line["event"] == "start failed"]
    return str(found)


def test_while_it_drains_new_jobs_are_refused_for_a_moment_and_running_ones_are_finished(tmp_path: Path) -> None:
    with serving(tmp_path) as gateway, ThreadPoolExecutor(1) as threads:
        gateway.vendors.latency(2.0)
        running = threads.submit(gateway.http.post, IMAGES, json=PROMPT)
        while not gateway.http.get("/readyz").json()["jobs"]:
            time.sleep(0.02)
        gateway.process.send_signal(signal.SIGTERM)
        while (ready := gateway.http.get("/readyz")).status_code == 200:
            time.sleep(0.02)
        assert (ready.status_code, ready.json()["draining"]) == (503, True)
        for path in (JOBS, IMAGES):
            refused = gateway.http.post(path, json=PROMPT)
            assert refused.status_code == 503
            assert told(refused)["code"] == "draining"
            assert 1 <= int(refused.headers["retry-after"]) <= 120
            assert "x-should-retry" not in refused.headers, "elsewhere, or later, it is taken"
        assert running.result(timeout=30).status_code == 200
        assert gateway.process.wait(timeout=30) == 0


def test_a_second_gateway_on_the_same_data_is_told_what_to_do(tmp_path: Path) -> None:
    with serving(tmp_path):
        command = [sys.executable, "-m", "gateway.cli", "serve", "--sandbox", "--port", "0"]
        second = subprocess.run(
            [*command, "--data", str(tmp_path / "data")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert second.returncode == 1
    assert "Traceback" not in second.stderr
    assert "gateway.db" in second.stderr


def test_a_place_for_images_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("no folder")
    command = [sys.executable, "-m", "gateway.cli", "serve", "--sandbox", "--port", "0", "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "images cannot be a folder" in problem(done.stderr)


def test_a_secret_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    command = [sys.executable, "-m", "gateway.cli", "serve", "--sandbox", "--port", "0", "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "holds no secret" in problem(done.stderr)
