"""Jobs that another version saved: they load, and go on as far as this version knows them."""

import json
from typing import Any

from gateway.jobs.commit import decode_job
from gateway.jobs.job import Job
from tests.unit.jobs.living import Life, acceptance, place

IDENTITY = "0123456789ab"
KNOWN = place("runapi", account=IDENTITY)


def saved() -> tuple[Job, Any]:
    """A job with an order, and what lies in a store of it."""
    life = Life(acceptance(route=(KNOWN,)))
    life.opens()
    return life.job, json.loads(life.commits[-1].blob)


def read(written: Any) -> Job:
    return decode_job(json.dumps(written).encode())


def test_a_place_of_an_older_version_names_no_account() -> None:
    job, written = saved()
    assert written["route"][0].pop() == IDENTITY
    older = read(written)
    assert older.route == (place("runapi"),)
    assert older.route[0].account == ""
    assert older.attempts == job.attempts


def test_a_place_of_a_newer_version_is_read_as_far_as_this_one_knows_it() -> None:
    job, written = saved()
    written["route"][0].append("something new")
    assert read(written) == job
