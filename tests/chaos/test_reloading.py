"""The configuration changes while jobs are running: by file or by signal, as a whole or not at all."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos import configs
from tests.chaos.clients import post
from tests.chaos.gateways import Gateway, gateway, until
from tests.vendors import Vendors


@pytest.fixture
def config(tmp_path: Path, sandbox: Vendors) -> Path:
    return configs.write(tmp_path / "config", sandbox.url)


@pytest.fixture
def one(tmp_path: Path, config: Path) -> Iterator[Gateway]:
    with gateway(tmp_path / "gateway", config) as running:
        yield running


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def loaded(at: Gateway) -> Any:
    return at.get("/readyz").json()["config"]


def taken_anew(at: Gateway, before: str) -> Any:
    return until(lambda: (now := loaded(at))["in_force"] != before and now, "the change is taken", seconds=10)


def test_a_changed_file_takes_effect_by_itself(one: Gateway, config: Path) -> None:
    before = loaded(one)["in_force"]
    change(config / "policies.yaml", "default: any", "default: runapi")
    assert taken_anew(one, before)["last_reload"] == "taken"
    with one.client() as client:
        job = client.post("/v1/jobs", json={"prompt": "a lighthouse"}, headers={"prefer": "wait=30"}).json()
    assert [image["seller"] for image in job["images"]] == ["runapi"]


def test_a_signal_reads_what_nobody_watches(one: Gateway, config: Path) -> None:
    before = loaded(one)["in_force"]
    change(config / "gateway.yaml", "watch: true", "watch: false")
    before = taken_anew(one, before)["in_force"]
    change(config / "policies.yaml", "default: any", "default: runapi")
    for _ in range(50):
        assert loaded(one)["in_force"] == before
    one.signal(signal.SIGHUP)
    assert taken_anew(one, before)["last_reload"] == "taken"


@pytest.mark.parametrize("how", ["file", "signal"])
def test_a_broken_file_leaves_everything_as_it_was_and_is_told_of(one: Gateway, config: Path, how: str) -> None:
    if how == "signal":
        before = loaded(one)["in_force"]
        change(config / "gateway.yaml", "watch: true", "watch: false")
        taken_anew(one, before)
    before = loaded(one)["in_force"]
    change(config / "policies.yaml", "default: any", "default: nobody")
    if how == "signal":
        one.signal(signal.SIGHUP)
    told = until(lambda: (now := loaded(one))["last_reload"] == "refused" and now, "it is refused", seconds=10)
    assert told["in_force"] == before
    assert len(told["problems"]) == 1
    assert "policies.yaml:" in told["problems"][0]
    assert one.get("/readyz").status_code == 200
    until(lambda: "configuration refused" in one.said() and "policies.yaml" in one.said(), "the log says so")
    with one.client() as client:
        assert post(client, "key", "any", 30).json()["status"] == "completed"
    change(config / "policies.yaml", "default: nobody", "default: any")
    if how == "signal":
        one.signal(signal.SIGHUP)
    until(lambda: loaded(one)["last_reload"] == "taken", "it is whole again", seconds=10)
    assert loaded(one)["problems"] == []


def test_what_is_no_longer_to_be_read_leaves_everything_as_it_was(one: Gateway, config: Path) -> None:
    """The whole folder is gone for a while, as when it is mounted anew."""
    before = loaded(one)["in_force"]
    config.rename(config.with_name("elsewhere"))
    one.signal(signal.SIGHUP)
    until(lambda: loaded(one)["last_reload"] == "refused", "it is refused", seconds=10)
    with one.client() as client:
        assert post(client, "key", "any", 30).json()["status"] == "completed"
    config.with_name("elsewhere").rename(config)
    until(lambda: loaded(one)["last_reload"] == "taken", "it is back", seconds=10)
    assert loaded(one)["in_force"] == before


def ordered(at: Gateway, sandbox: Vendors) -> list[str]:
    """Four jobs that are being asked about, and four whose orders are not answered yet."""
    sandbox.latency(2.0)
    with at.client() as client:
        jobs = [post(client, f"asked-{one}", "runapi").json()["id"] for one in range(4)]
        until(lambda: all(_has_ticket(client, job) for job in jobs), "all have a ticket")
        sandbox.fault("slow", vendor="runapi", route="submit", seconds=2, times=4)
        jobs += [post(client, f"slow-{one}", "runapi").json()["id"] for one in range(4)]
        until(lambda: len(sandbox.requests("runapi", "submit")) == 8, "all are on their way")
        assert not any(_has_ticket(client, job) for job in jobs[4:])
    return jobs


def _has_ticket(client: httpx.Client, job: str) -> bool:
    states = [attempt["state"] for attempt in client.get(f"/v1/jobs/{job}").json()["attempts"]]
    return states == ["ticketed"]


def finished(at: Gateway, jobs: list[str]) -> list[str]:
    with at.client() as client:
        return [client.get(f"/v1/jobs/{job}?wait=30").json()["status"] for job in jobs]


def test_a_seller_that_is_dropped_finishes_what_it_has_and_gets_nothing_new(
    one: Gateway, config: Path, sandbox: Vendors
) -> None:
    jobs, before = ordered(one, sandbox), loaded(one)["in_force"]
    (config / "offers" / "runapi.yaml").unlink()
    change(config / "policies.yaml", "  runapi: {rank: listed, sellers: [runapi]}\n", "")
    change(config / "policies.yaml", "sellers: [runflow-runs, runapi, openai, runflow-run]", "sellers: [runflow-runs]")
    change(config / "teams.yaml", "runapi, ", "")
    taken_anew(one, before)
    with one.client() as client:
        assert post(client, "late", "runapi").status_code == 400
        late = post(client, "later", "any", 30).json()
    assert [image["seller"] for image in late["images"]] == ["runflow-runs"]
    assert finished(one, jobs) == ["completed"] * 8
    assert len(sandbox.requests("runapi", "submit")) == 8
    assert len(sandbox.charges("runapi")) == 8


def test_an_account_whose_secret_is_gone_finishes_what_it_has(
    one: Gateway, tmp_path: Path, config: Path, sandbox: Vendors
) -> None:
    secret, before = tmp_path / "runapi.key", loaded(one)["in_force"]
    secret.write_text("sk-sandbox\n")
    configs.write(config, sandbox.url, runapi_key=f"file:{secret}")
    taken_anew(one, before)
    jobs = ordered(one, sandbox)
    secret.unlink()
    one.signal(signal.SIGHUP)
    until(lambda: _is_refused(one), "nothing more is bought there", seconds=10)
    assert finished(one, jobs) == ["completed"] * 8
    assert len(sandbox.requests("runapi", "submit")) == len(sandbox.charges("runapi"))


def _is_refused(at: Gateway) -> bool:
    with at.client() as client:
        return post(client, f"late-{time.monotonic()}", "runapi").status_code == 400
