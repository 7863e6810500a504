"""One team's links lead to names whose name server is silent: no order and no seller's health suffers from it.

All of it runs in a network namespace: the gateway, its sellers, its clients, and the only name server there is.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests import vendors
from tests.clients.pictures import drawn
from tests.flow.configuration import POOR_KEY, SELLERS, Setup
from tests.flow.gateways import PROMPT, Flow
from tests.flow.names import NameServer, own_network, serving_names
from tests.flow.places import Kept, kept_on
from tests.flow.public import Web, serving
from tests.vendors import Vendors

SELLER_NAME, BY_NAME = "sellers.example", "by name"
LINKS, REQUESTS = 16, 10
# Without anybody's dead links they take a fifth of a second. With those of before, 18 s.
SOON_SECONDS = 3.0
FRESH_SECONDS = 1.0
SETUP = Setup(
    constants={"gateway.upstream.ailing.DOWN": None, "gateway.upstream.host_lookup.FRESH_SECONDS": FRESH_SECONDS}
)
NUMBERS = count()


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    with ExitStack() as inside:
        try:
            inside.enter_context(own_network())
        except OSError as error:
            pytest.skip(f"this machine does not let a process have its own network: {error}")
        yield


@pytest.fixture(scope="module")
def sandbox_process(network: None) -> Iterator[Vendors]:
    with vendors.running() as running:
        yield running


@pytest.fixture(scope="module")
def web(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with serving(tmp_path_factory.mktemp("web")) as web:
        yield web


@pytest.fixture(scope="module")
def names(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameServer]:
    with serving_names(tmp_path_factory.mktemp("names"), {SELLER_NAME: "127.0.0.1"}) as names:
        yield names


@pytest.fixture(scope="module", params=[BY_NAME, "by address"])
def kept(
    request: pytest.FixtureRequest,
    names: NameServer,
    web: Web,
    tmp_path_factory: pytest.TempPathFactory,
    sandbox_process: Vendors,
) -> Iterator[Kept]:
    host = SELLER_NAME if request.param == BY_NAME else "127.0.0.1"
    sellers = Vendors(sandbox_process.url.replace("127.0.0.1", host), sandbox_process.http)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {**web.environ(), **names.environ()}.items():
            patched.setenv(name, value)
        with kept_on("sqlite", tmp_path_factory.mktemp("silent"), sellers, SETUP) as kept:
            yield kept


def send_dead_links(url: str) -> httpx.Response:
    links = [f"https://dead-{next(NUMBERS)}.example/picture.png" for _ in range(LINKS)]
    body = {"prompt": PROMPT, "operation": "edit", "images": links, "size": "1024x1024"}
    headers = {"authorization": f"Bearer {POOR_KEY}"}
    return httpx.post(f"{url}/v1/jobs", json=body, headers=headers, timeout=60, trust_env=False)


@contextmanager
def flooded(flow: Flow, names: NameServer) -> Iterator[list[httpx.Response]]:
    """As long as the block lasts, so many requests are there at any time. The answers."""
    answers: list[httpx.Response] = []
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            answers.append(send_dead_links(flow.gateway.url))
            over.wait(0.5)

    before = names.asked.total()
    threads = [threading.Thread(target=flood) for _ in range(REQUESTS)]
    for thread in threads:
        thread.start()
    try:
        flow.gateway.until("names are looked up", lambda: names.asked.total() > before)
        time.sleep(0.5)
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def expect_delivery_soon(flow: Flow, seller: str, **wishes: object) -> None:
    began = time.monotonic()
    job = flow.buy(seller, **wishes)
    assert job["status"] == "completed", job
    assert time.monotonic() - began < SOON_SECONDS


def test_dead_links_of_one_team_slow_no_order_and_blame_no_seller(flow: Flow, names: NameServer, web: Web) -> None:
    link = web.put("/picture.png", drawn(640, 640), content_type="image/png")
    with flooded(flow, names) as answers:
        for seller in SELLERS * 3:
            expect_delivery_soon(flow, seller)
        for seller in SELLERS:
            expect_delivery_soon(flow, seller, operation="edit", image=link, size="1024x1024")
        assert flow.gateway.all_sellers_are_well()
    assert flow.gateway.all_sellers_are_well()
    assert {answer.status_code for answer in answers} == {400, 429}
    for answer in answers:
        expect_named_error(answer)
    # Its links are what it is refused for, and nothing else.
    sold = {"prompt": PROMPT, "quality": "low", "provider": {"only": [SELLERS[0]]}}
    assert flow.gateway.ask(sold, key=POOR_KEY).json()["status"] == "completed"


def expect_named_error(answer: httpx.Response) -> None:
    error = answer.json()["error"]
    assert error["param"] == "images"
    if answer.status_code == 400:
        assert error["code"] == "invalid_image_url"
        assert "'images'" in error["message"]
        assert "host name could not be resolved in time" in error["message"]
    else:
        assert error["code"] == "too_many_downloads"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize("kept", [BY_NAME], indirect=True)
def test_nothing_outside_of_the_namespace_is_reached(flow: Flow, names: NameServer) -> None:
    """Neither a name server beside ours, nor anything else of this machine or beyond."""
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    assert len(Path("/proc/thread-self/net/route").read_text().splitlines()) == 1
    gateway = f"/proc/{flow.gateway.process.pid}"
    assert os.readlink(f"{gateway}/ns/net") == os.readlink("/proc/thread-self/ns/net")
    assert Path(f"{gateway}/root/etc/resolv.conf").read_text() == f"nameserver {names.address}\n"


@pytest.mark.parametrize("kept", [BY_NAME], indirect=True)
def test_orders_go_on_when_the_name_server_of_a_seller_falls_silent(flow: Flow, names: NameServer) -> None:
    """Its addresses are known. Orders that need connections of their own are among these."""
    expect_delivery_soon(flow, SELLERS[0])
    known = names.known.pop(SELLER_NAME)
    try:
        time.sleep(1.5 * FRESH_SECONDS)
        for seller in SELLERS:
            expect_delivery_soon(flow, seller)
        assert flow.gateway.all_sellers_are_well()
    finally:
        names.known[SELLER_NAME] = known
