"""A real Prometheus reads the metrics in both formats, and finds the job of a request by its exemplar."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from gateway.telemetry.metric_table import METRIC_TABLE
from tests.api.error_responses import JOBS_PATH
from tests.dashboards.prometheus_server import PROGRAMS, PrometheusServer, run_prometheus
from tests.harness.gateway_runner import RunningGateway
from tests.harness.wait import wait_for_value, wait_until

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
# A job and an order of this duration are in buckets in which hardly any other test has one.
JOB_SECONDS = 5.2
EXEMPLAR_METRICS = ("igw_job_duration_seconds_bucket", "igw_attempt_duration_seconds_bucket")
# Of steps that take milliseconds.
STEP_METRICS = ("igw_job_state_duration_seconds_bucket", "igw_slot_wait_seconds_bucket")


@pytest.fixture(scope="module")
def prometheus(gateway_process: RunningGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    with run_prometheus(tmp_path_factory.mktemp("prometheus"), [gateway_process.url.removeprefix("http://")]) as server:
        yield server


@pytest.fixture(scope="module")
def slow_job(gateway_process: RunningGateway) -> str:
    gateway_process.sandbox.set_latency(JOB_SECONDS)
    job_id = run_job(gateway_process)
    gateway_process.sandbox.set_latency(0.0)
    return job_id


def run_job(gateway: RunningGateway) -> str:
    job = gateway.http.post(JOBS_PATH, json={"prompt": "a job"}, headers={"prefer": "wait=20"}).json()
    assert job["status"] == "completed"
    return str(job["id"])


def read_exemplars(text: str) -> set[tuple[str, str]]:
    """Returns the name of the metric and the job of each exemplar."""
    return {
        (sample.name, sample.exemplar.labels["job_id"])
        for family in parse_openmetrics(text)
        for sample in family.samples
        if sample.exemplar is not None
    }


def get_label_sets(exemplars: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [exemplar["labels"] for series in exemplars for exemplar in series["exemplars"]]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_scraper_gets_the_format_that_it_accepts(gateway: RunningGateway, accept: str, media_type: str) -> None:
    answer = gateway.http.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"] == media_type
    assert ("# EOF" in answer.text) == ("openmetrics" in media_type)


def test_text_format_passes_the_checks_of_promtool(gateway: RunningGateway, slow_job: str) -> None:
    """They include the rules for names and help texts."""
    text = gateway.http.get("/metrics", headers={"accept": "text/plain"}).content
    result = subprocess.run([PROGRAMS / "promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (result.returncode, result.stderr.decode()) == (0, "")


def test_openmetrics_names_a_job_of_each_bucket(gateway: RunningGateway, slow_job: str) -> None:
    text = gateway.http.get("/metrics", headers={"accept": OPENMETRICS}).text
    assert [family.name for family in parse_openmetrics(text)] == [
        row.name.removesuffix("_total") for row in METRIC_TABLE
    ]
    assert {(name, slow_job) for name in EXEMPLAR_METRICS} <= read_exemplars(text)
    assert slow_job not in gateway.http.get("/metrics", headers={"accept": "text/plain"}).text


def test_fast_jobs_have_exemplars_too(gateway: RunningGateway) -> None:
    job = run_job(gateway)
    exemplars = read_exemplars(gateway.http.get("/metrics", headers={"accept": OPENMETRICS}).text)
    assert {(name, job) for name in (*EXEMPLAR_METRICS, *STEP_METRICS)} <= exemplars


def test_prometheus_stores_values_and_exemplars(
    gateway: RunningGateway, prometheus: PrometheusServer, slow_job: str
) -> None:
    wait_until(lambda: prometheus.count_healthy_targets() == 1, "Prometheus has scraped the gateway")
    wait_for_value(lambda: prometheus.query("sum(igw_job_duration_seconds_count) > 0"), bool, "jobs are counted")
    for name in EXEMPLAR_METRICS:
        labels = wait_for_value(
            lambda name=name: get_label_sets(prometheus.query_exemplars(name)), bool, f"{name} has exemplars"
        )
        assert {"job_id": slow_job} in labels
    assert prometheus.query("time() - igw_config_applied_timestamp_seconds")[0].values[0][1] > 0
