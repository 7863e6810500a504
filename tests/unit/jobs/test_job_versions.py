"""Jobs stored by another version can be loaded and processed."""

import json
from typing import Any

from gateway.jobs.commit import decode_job
from gateway.jobs.first_commit import build_first_commit
from gateway.jobs.job import Job
from tests.unit.jobs.job_scenario import JobScenario, make_new_job, make_route_entry

ACCOUNT_IDENTITY = "0123456789ab"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ENTRY_WITH_ACCOUNT = make_route_entry("runapi", account_identity=ACCOUNT_IDENTITY)


def make_saved_job() -> tuple[Job, Any]:
    """Returns a job with an order, and its encoded form."""
    scenario = JobScenario(make_new_job(route=(ENTRY_WITH_ACCOUNT,)))
    scenario.start_attempt()
    return scenario.job, json.loads(scenario.commits[-1].encoded_job)


def decode_from_json(saved_json: Any) -> Job:
    return decode_job(json.dumps(saved_json).encode())


def test_route_entry_of_older_version_has_no_account() -> None:
    job, saved_json = make_saved_job()
    assert saved_json["route"][0].pop() is False, "whether the seller is a canary"
    assert saved_json["route"][0].pop() == ACCOUNT_IDENTITY
    older = decode_from_json(saved_json)
    assert older.route == (make_route_entry("runapi"),)
    assert older.route[0].account_identity == ""
    assert older.attempts == job.attempts


def test_route_entry_of_newer_version_is_read_without_new_field() -> None:
    job, saved_json = make_saved_job()
    saved_json["route"][0].append("something new")
    assert decode_from_json(saved_json) == job


def test_trace_is_stored_only_for_traced_jobs() -> None:
    """Jobs of older versions have none, and those of this version can be read by older ones, which skip it."""
    trace = {"traceparent": TRACEPARENT, "tracestate": "congo=t61rcWkgMzE"}
    commits = [build_first_commit(make_new_job(**fields), 0.0) for fields in ({}, trace)]
    untraced, traced = (json.loads(commit.encoded_job) for commit in commits)
    assert traced == untraced | trace
    assert not trace.keys() & untraced.keys()
    job = decode_from_json(untraced)
    assert (job.traceparent, job.tracestate) == (None, None)
    assert decode_from_json(traced) == commits[1].job
