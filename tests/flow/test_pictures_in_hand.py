"""Pictures that are made and cannot be kept, or not all be fetched: they are paid for, and none is let go."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.flow.configuration import BACKUP, SELLERS, VENDOR, Setup
from tests.flow.gateways import PROMPT, Flow
from tests.flow.places import Kept, kept_on
from tests.flow.test_orders_under_fault import PRICE
from tests.vendors import Vendors

RUNS, RUN, RUNAPI, OPENAI = SELLERS
DEADLINE = 4.0
SETUP = Setup(
    jobs={"deadline_seconds": DEADLINE},
    # Whoever is told that a picture is gone believes it at once, so that of several only one can be lost.
    constants={"gateway.engine.delivering.TRIES": 1},
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("in-hand")


@pytest.fixture(scope="module")
def kept(home: Path, sandbox_process: Vendors) -> Iterator[Kept]:
    with kept_on("sqlite", home, sandbox_process, SETUP) as kept:
        yield kept


@contextmanager
def shelf_away(home: Path) -> Iterator[None]:
    shelf, away = home / "data" / "images", home / "data" / "away"
    shelf.rename(away)
    try:
        yield
    finally:
        away.rename(shelf)


def test_pictures_that_no_shelf_takes_until_after_the_deadline_are_delivered(flow: Flow, home: Path) -> None:
    """Also those that came with their answer, which nobody has but the task that waits for the shelf."""
    wishes = {"prompt": PROMPT, "quality": "low"}
    with shelf_away(home):
        asked = [flow.gateway.ask({**wishes, "provider": {"only": [one]}}, prefer="wait=0").json() for one in SELLERS]
        # All deadlines are over, and the pictures are still waited for.
        time.sleep(DEADLINE + 1.0)
    jobs = [flow.gateway.job(job["id"]) for job in asked]
    assert [job["status"] for job in jobs] == ["completed"] * len(SELLERS)
    assert [one.size for job in jobs for one in flow.pictures(job)] == [(1024, 1024)] * len(SELLERS)
    assert flow.booked() == {(seller, "capture"): PRICE[seller] for seller in SELLERS}


def test_some_of_an_orders_pictures_may_be_lost(flow: Flow) -> None:
    """What is there is delivered, and what is not is an orphan."""
    flow.sandbox.fault("status", vendor=VENDOR[RUN], route="download", status=404, times=1)
    job = flow.buy_first(RUN, n=3)
    assert job["status"] == "completed"
    assert len(job["images"]) == 2
    assert flow.booked() == {(RUN, "capture"): 2 * PRICE[RUN], (RUN, "orphan"): PRICE[RUN]}
    assert flow.orders(BACKUP[RUN]) == 0
