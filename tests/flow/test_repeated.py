"""What was accepted is answered with its job when it is asked again, although it would be refused by now."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.clients.pictures import drawn
from tests.flow.configuration import STRANGER_KEY
from tests.flow.gateways import Flow
from tests.flow.places import STORES, Kept, kept_on
from tests.flow.public import Web, serving
from tests.vendors import Vendors

SELLER, PICTURE, LINK = "runflow-runs", drawn(640, 640), "/picture.png"
PRICE = 'price: "0.009"'
WAYS = pytest.mark.parametrize("way", ["key", "sdk"])
Body = dict[str, Any]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with serving(tmp_path_factory.mktemp("web")) as web:
        yield web


@pytest.fixture(scope="module", params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def home(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(f"repeated-{store}")


@pytest.fixture(scope="module")
def kept(store: str, home: Path, web: Web, sandbox_process: Vendors) -> Iterator[Kept]:
    """These change what they are configured with."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in web.environ().items():
            patched.setenv(name, value)
        with kept_on(store, home, sandbox_process) as kept:
            yield kept


@pytest.fixture
def config(kept: Kept, home: Path, tmp_path: Path) -> Iterator[Path]:
    """Its files, which are in the end what they were."""
    config = next(home.rglob("offers")).parent
    shutil.copytree(config, tmp_path / "before")
    yield config
    shutil.copytree(tmp_path / "before", config, dirs_exist_ok=True)
    kept[0].reload()


class Place:
    """Where something may change between two requests."""

    def __init__(self, flow: Flow, config: Path, web: Web) -> None:
        self.flow, self._config, self._web = flow, config, web
        self._name = str(uuid4())
        web.asked.clear()
        web.put(LINK, PICTURE, content_type="image/png")

    def first(self, way: str) -> dict[str, str]:
        """What is sent with a request that may come again: a key, or an SDK's word that it is the first time."""
        return {"idempotency-key": self._name} if way == "key" else {"x-stainless-retry-count": "0"}

    def again(self, way: str) -> dict[str, str]:
        return self.first(way) if way == "key" else {"x-stainless-retry-count": "1"}

    def drawing(self, **more: object) -> Body:
        return {"prompt": self._name, "quality": "low", "provider": {"only": [SELLER]}, "max_price": "0.02", **more}

    def edit(self) -> Body:
        return self.drawing(operation="edit", image=self._web.url(LINK), size="1024x1024")

    def price_rises(self) -> None:
        path = self._config / "offers" / f"{SELLER}.yaml"
        path.write_text(path.read_text().replace(PRICE, 'price: "0.03"'))
        self.flow.gateway.reload()

    def seller_goes(self) -> None:
        """With the policies that name it."""
        (self._config / "offers" / f"{SELLER}.yaml").unlink()
        policies, teams = (json.loads((self._config / f"{name}.yaml").read_text()) for name in ("policies", "teams"))
        left = {name: one for name, one in policies["policies"].items() if SELLER not in one.get("sellers", ())}
        for team in teams["teams"].values():
            team["policies"] = [name for name in team.get("policies", left) if name in left]
        (self._config / "policies.yaml").write_text(json.dumps({**policies, "policies": left}))
        (self._config / "teams.yaml").write_text(json.dumps(teams))
        self.flow.gateway.reload()

    def link_dies(self) -> None:
        del self._web.pages[LINK]

    def times_fetched(self) -> int:
        return self._web.asked[LINK]


@pytest.fixture
def place(flow: Flow, config: Path, web: Web) -> Place:
    return Place(flow, config, web)


CHANGES = pytest.mark.parametrize(
    ("body", "change"),
    [(Place.drawing, Place.price_rises), (Place.drawing, Place.seller_goes), (Place.edit, Place.link_dies)],
    ids=["price", "seller", "link"],
)


def refused(answer: httpx.Response) -> str:
    assert answer.status_code in (400, 422), answer.text
    return str(answer.json()["error"]["code"])


def assert_is_the_job(answer: httpx.Response, first: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    assert answer.headers["idempotent-replayed"] == "true"
    assert answer.json()["id"] == first.json()["id"]
    assert answer.json()["status"] == "completed"


@CHANGES
@WAYS
def test_it_is_the_job_that_is_running(
    place: Place, body: Callable[[Place], Body], change: Callable[[Place], None], way: str
) -> None:
    place.flow.sandbox.latency(1.0)
    asked = place.flow.gateway.ask(body(place), **place.first(way), prefer="wait=0")
    assert asked.status_code == 202
    change(place)
    assert_is_the_job(place.flow.gateway.ask(body(place), **place.again(way)), asked)
    assert place.flow.orders(SELLER) == 1
    assert place.times_fetched() == (body is Place.edit)


@CHANGES
@WAYS
def test_it_is_the_job_that_has_ended(
    place: Place, body: Callable[[Place], Body], change: Callable[[Place], None], way: str
) -> None:
    asked = place.flow.gateway.ask(body(place), **place.first(way))
    assert asked.json()["status"] == "completed"
    change(place)
    assert_is_the_job(place.flow.gateway.ask(body(place), **place.again(way)), asked)
    assert place.flow.orders(SELLER) == 1
    assert place.times_fetched() == (body is Place.edit)


@WAYS
def test_it_is_the_job_on_openais_route_too(place: Place, way: str) -> None:
    asked = place.flow.gateway.generate(place.drawing(), **place.first(way))
    place.seller_goes()
    again = place.flow.gateway.generate(place.drawing(), **place.again(way))
    assert again.status_code == 200, again.text
    assert again.headers["x-igw-job-id"] == asked.headers["x-igw-job-id"]
    assert again.json() == asked.json()
    assert place.flow.orders(SELLER) == 1


@CHANGES
def test_another_body_with_its_key_is_a_conflict_before_all_else(
    place: Place, body: Callable[[Place], Body], change: Callable[[Place], None]
) -> None:
    assert place.flow.gateway.ask(body(place), **place.first("key")).status_code == 200
    change(place)
    other = {**body(place), "prompt": "something else"}
    assert refused(place.flow.gateway.ask(other, **place.again("key"))) == "idempotency_key_reused"
    assert place.flow.orders(SELLER) == 1
    assert place.times_fetched() == (body is Place.edit)


@CHANGES
@WAYS
def test_another_team_is_refused_as_anybody_new(
    place: Place, body: Callable[[Place], Body], change: Callable[[Place], None], way: str
) -> None:
    assert place.flow.gateway.ask(body(place), **place.first(way)).status_code == 200
    change(place)
    codes = {refused(place.flow.gateway.ask(body(place), key=STRANGER_KEY, **place.again(way)))}
    codes.add(refused(place.flow.gateway.ask(body(place))))
    assert codes <= {"no_offer", "invalid_value", "invalid_image_url"}
    assert len(codes) == 1
    assert place.flow.orders(SELLER) == 1
