"""Pictures on their way home: whatever fails around them, none that can be had is let go."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.assets.shelf import ShelfFull, ShelfUnavailable
from gateway.engine import delivering
from gateway.engine.delivering import TRIES, Deliverer
from gateway.engine.desk import Desk
from gateway.engine.records import Picture, SavedRequest, Terms, encode
from gateway.jobs.applying import Ignored, after
from gateway.jobs.facts import Happening, PicturesDelivered, PicturesReady
from gateway.jobs.job import Job
from gateway.jobs.recovery import PICTURES_LAST_SECONDS
from gateway.store.base import StoreUnavailable
from gateway.upstream.download import DownloadError
from providers.faults import FaultKind
from providers.orders import Format, Inline, Link, Operation, Pixels, Quality
from providers.progress import Ready
from providers.sizes import Resolution, Target
from tests.assets.pictures import HEIGHT, WIDTH, quartered, written
from tests.unit.jobs.living import START, Life, acceptance, place

PICTURE = written(quartered(), "PNG")
REQUEST = SavedRequest(
    operation=Operation.GENERATE,
    prompt="a lighthouse",
    target=Target(WIDTH, HEIGHT, "3:2", Resolution.ONE_K),
    quality=Quality.LOW,
    output_format=Format.PNG,
)
TERMS = (Terms(size=Pixels(WIDTH, HEIGHT), quality=None, output_format=None),)
OFFER: Any = SimpleNamespace(
    seller=SimpleNamespace(account=SimpleNamespace(name="an account", private=False, proxy=None)),
    tokens=None,
    name="a seller",
)
Answer = bytes | Exception


class Letters:
    """Saves at once whatever is posted."""

    def __init__(self, world: "World") -> None:
        self._world = world

    async def post(self, *happenings: Happening, documents: dict[str, bytes] | None = None, **_: Any) -> bool:
        desk, before = self._world.desk, self._world.desk.job
        for happening in happenings:
            self._world.posted.append(happening)
            changed = after(desk.job, happening, self._world.now)
            desk.job = desk.job if isinstance(changed, Ignored) else changed
        self._world.documents |= documents or {}
        return desk.job is not before


class World:
    """A store, a shelf and hosts that fail as a test says, one answer after the other, and do well after that."""

    def __init__(self, job: Job) -> None:
        self.now = START + 1.0
        self.store: list[Exception] = []
        self.shelf: list[Exception] = []
        self.hosts: Callable[[str], Answer] = lambda url: PICTURE
        self.posted: list[Happening] = []
        self.documents: dict[str, bytes] = {}
        self.kept: list[str] = []
        self.fetched: list[str] = []
        self.told: list[Any] = []
        hands: Any = SimpleNamespace(
            store=SimpleNamespace(documents=self._documents),
            shelf=SimpleNamespace(put=self._put),
            upstream=SimpleNamespace(download=self._download),
            emit=self.told.append,
            now=lambda: self.now,
        )
        self.desk = Desk(hands, job, 1)
        self.desk.mailbox = Letters(self)  # type: ignore[assignment]

    async def _documents(self, job: str, *names: str) -> dict[str, bytes]:
        if self.store:
            raise self.store.pop(0)
        return {"request": encode(REQUEST), "terms": encode(TERMS)}

    async def _put(self, key: str, data: bytes, media_type: str) -> None:
        if self.shelf:
            raise self.shelf.pop(0)
        self.kept.append(key)

    async def _download(self, url: str, private: bool, proxy: object, account: str) -> bytes:
        self.fetched.append(url)
        answer = self.hosts(url)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def deliver(self, *pictures: Inline | Link) -> bool:
        delivery = Deliverer(self.desk).deliver(1, Ready(pictures=pictures, cost=7), OFFER)
        return asyncio.run(asyncio.wait_for(delivery, 60))

    @property
    def delivered(self) -> PicturesDelivered:
        [last] = [one for one in self.posted if isinstance(one, PicturesDelivered)]
        return last

    def readies(self) -> list[PicturesReady]:
        return [one for one in self.posted if isinstance(one, PicturesReady)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "PAUSE", 0.001)
    monkeypatch.setattr(delivering, "LONGEST_PAUSE", 0.005)


def world(n: int = 1, asks: bool = False) -> World:
    life = Life(acceptance(n=n, id="job_07abcdefghijklmnopqrstuvwxyz", route=(place(asks=asks),)))
    images = tuple(range(n))
    life.tickets(0, images) if asks else life.opens(0, images)
    return World(life.job)


def inline() -> Inline:
    return Inline(PICTURE, "image/png", "")


def link(number: int) -> Link:
    return Link(f"https://pictures.example/{number}")


def failing(url: Link, *errors: Exception) -> Callable[[str], Answer]:
    """This address does, so many times; all others, and this one in the end, have the picture."""
    left = list(errors)
    return lambda asked: left.pop(0) if asked == url.url and left else PICTURE


def test_a_store_that_is_away_loses_no_picture_that_came_with_its_answer() -> None:
    away = world(n=3)
    away.store = [StoreUnavailable("away") for _ in range(20)]
    assert away.deliver(inline(), inline(), inline())
    assert away.delivered == PicturesDelivered(attempt=1, images=(0, 1, 2), made=3, cost=7)
    assert sorted(away.documents) == ["picture.1.0", "picture.1.1", "picture.1.2"]
    assert away.readies()[0] == PicturesReady(attempt=1, cost=7)


@pytest.mark.parametrize("asks", [True, False])
def test_a_shelf_that_takes_nothing_is_waited_for_and_what_was_fetched_is_not_fetched_again(asks: bool) -> None:
    full = world(n=2, asks=asks)
    full.shelf = [ShelfFull("full"), *(ShelfUnavailable("away") for _ in range(20))]
    assert full.deliver(link(0), link(1))
    assert full.delivered.images == (0, 1)
    assert sorted(full.fetched) == [link(0).url, link(1).url]
    assert full.readies()[0].cost == 7


def test_all_is_well_and_only_the_pictures_are_told_of() -> None:
    well = world(n=2)
    assert well.deliver(inline(), inline())
    assert well.posted == [well.delivered]
    assert well.told == []


def test_a_fault_of_ours_over_one_picture_costs_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = world(n=3)

    async def put(key: str, data: bytes, media_type: str) -> None:
        if "image-1-1" in key:
            raise ZeroDivisionError

    monkeypatch.setattr(broken.desk.hands.shelf, "put", put)
    assert broken.deliver(inline(), inline(), inline())
    assert (broken.delivered.images, broken.delivered.made, broken.delivered.missing) == ((0, 2), 3, FaultKind.EXPIRED)
    assert ["ZeroDivisionError" in one.what for one in broken.told] == [True] * TRIES


def test_bytes_that_are_no_picture_and_came_with_the_answer_are_looked_at_once() -> None:
    odd = world(n=2)
    assert odd.deliver(inline(), Inline(b"<html>", "image/png", ""))
    assert (odd.delivered.images, odd.delivered.missing) == ((0,), FaultKind.EXPIRED)
    assert odd.readies() == []


@pytest.mark.parametrize(
    "answer", [DownloadError("status 404", gone=True), b"<html>", PICTURE[:-20]], ids=["gone", "a page", "cut off"]
)
def test_a_host_that_has_no_picture_is_believed_after_a_few_tries(answer: Answer) -> None:
    gone = world(n=2)
    gone.hosts = lambda url: answer if url == link(1).url else PICTURE
    assert gone.deliver(link(0), link(1))
    assert (gone.delivered.images, gone.delivered.missing) == ((0,), FaultKind.EXPIRED)
    assert (gone.fetched.count(link(0).url), gone.fetched.count(link(1).url)) == (1, TRIES)


def test_a_host_that_is_in_trouble_is_tried_for_as_long_as_it_takes() -> None:
    down = world(n=2)
    down.hosts = failing(link(1), *(DownloadError("status 503") for _ in range(10 * TRIES)))
    assert down.deliver(link(0), link(1))
    assert down.delivered.images == (0, 1)


def test_of_a_seller_that_can_be_asked_again_fresh_addresses_are_wanted_first() -> None:
    """And what is here already is not fetched from them."""
    asked = world(n=2, asks=True)
    asked.hosts = failing(link(1), *(DownloadError("status 503") for _ in range(10 * TRIES)))
    deliverer = Deliverer(asked.desk)

    def deliver(*pictures: Link) -> bool:
        return asyncio.run(deliverer.deliver(1, Ready(pictures=pictures), OFFER))

    assert [deliver(link(0), link(1)) for _ in range(2 * TRIES)] == [False] * 2 * TRIES
    assert [one for one in asked.posted if isinstance(one, PicturesDelivered)] == []
    assert asked.desk.attempt(1).ready
    assert deliver(link(2), link(3))
    assert asked.delivered.images == (0, 1)
    assert (asked.fetched.count(link(0).url), asked.fetched.count(link(2).url)) == (1, 0)


def test_a_job_whose_request_is_gone_ends_its_order_and_does_not_fail_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = world(n=1)

    async def documents(job: str, *names: str) -> dict[str, bytes]:
        return {}

    monkeypatch.setattr(gone.desk.hands.store, "documents", documents)
    assert gone.deliver(inline())
    assert (gone.delivered.images, gone.delivered.missing) == ((), FaultKind.EXPIRED)
    assert len(gone.told) == TRIES


@pytest.mark.parametrize("asks", [True, False])
def test_when_pictures_expire_those_that_are_here_are_delivered(asks: bool) -> None:
    late = world(n=2, asks=asks)
    late.now = START + PICTURES_LAST_SECONDS - 1e-6
    late.desk.job = replace(late.desk.job, deadline=late.now + 900)
    late.hosts = failing(link(1), *(DownloadError("status 503") for _ in range(100)))
    assert late.deliver(link(0), link(1))
    assert (late.delivered.images, late.delivered.missing) == ((0,), FaultKind.EXPIRED)


def test_pictures_that_nobody_waits_for_any_more_are_not_tried_for_ever() -> None:
    late = world(n=1)
    late.now = late.desk.job.deadline + 1
    [part] = late.desk.job.parts
    late.desk.job = replace(late.desk.job, overdue=True, parts=(replace(part, attempt=None),))
    late.hosts = lambda url: DownloadError("status 503")
    assert late.deliver(link(0))
    assert not late.desk.attempt(1).is_open
    assert late.desk.attempt(1).orphaned == 7


def test_a_picture_says_what_its_own_bytes_are() -> None:
    well = world(n=1)
    assert well.deliver(inline())
    [key] = well.kept
    saved = well.documents["picture.1.0"]
    assert (
        encode(
            Picture(
                index=0,
                key=key,
                format=Format.PNG,
                width=WIDTH,
                height=HEIGHT,
                bytes=len(PICTURE),
                sha256=delivering.sha256(PICTURE).hexdigest(),
                seller="runapi",
                attempt=1,
                is_opaque=True,
            )
        )
        == saved
    )
