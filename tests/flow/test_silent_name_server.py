"""Input image URLs whose name server does not respond affect neither orders nor seller health.

The gateway, the sandbox, the clients and the only name server run in a network namespace.
"""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from gateway.timeouts_and_intervals import Timing
from tests.flow.flow_config import ONE_CENT_BUDGET_KEY, SELLERS, GatewaySetup
from tests.flow.gateway_on_store import GatewayAndStore, run_gateway_on_store
from tests.flow.order_flow import PROMPT, OrderFlow
from tests.flow.public_site import PublicSite, run_public_site
from tests.harness import sandbox_runner
from tests.harness.name_server import NameServer, enter_own_network, run_name_server
from tests.harness.sample_images import make_image
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

SELLER_HOST, BY_NAME = "sellers.example", "by name"
URLS_PER_REQUEST, CONCURRENT_REQUESTS = 16, 10
# Deliveries take 0.2 s. With dead URLs they once took 18 s.
MAX_DELIVERY_SECONDS = 9.0
CACHE_TTL_SECONDS = 1.0
SETUP = GatewaySetup(
    timing=change_timing(
        FAST_TIMINGS,
        health={"outage": Timing().health.outage},
        connections={"lookup_cache_ttl_seconds": CACHE_TTL_SECONDS},
    ),
)
HOST_NUMBERS = count()


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    with ExitStack() as exit_stack:
        try:
            exit_stack.enter_context(enter_own_network())
        except OSError as error:
            pytest.skip(f"this machine allows no network namespaces: {error}")
        yield


@pytest.fixture(scope="module")
def sandbox_process(network: None) -> Iterator[RunningSandbox]:
    with sandbox_runner.run_sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def web(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublicSite]:
    with run_public_site(tmp_path_factory.mktemp("web")) as web:
        yield web


@pytest.fixture(scope="module")
def name_server(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameServer]:
    with run_name_server(tmp_path_factory.mktemp("names"), {SELLER_HOST: "127.0.0.1"}) as server:
        yield server


@pytest.fixture(scope="module", params=[BY_NAME, "by address"])
def gateway_and_store(
    request: pytest.FixtureRequest,
    name_server: NameServer,
    web: PublicSite,
    tmp_path_factory: pytest.TempPathFactory,
    sandbox_process: RunningSandbox,
) -> Iterator[GatewayAndStore]:
    host = SELLER_HOST if request.param == BY_NAME else "127.0.0.1"
    named_vendors = RunningSandbox(sandbox_process.url.replace("127.0.0.1", host), sandbox_process.http)
    setup = web.add_to_setup(replace(SETUP, hooks=(name_server.make_hook(),)))
    with run_gateway_on_store("sqlite", tmp_path_factory.mktemp("silent"), named_vendors, setup) as running:
        yield running


def post_dead_urls(url: str) -> httpx.Response:
    urls = [f"https://dead-{next(HOST_NUMBERS)}.example/image.png" for _ in range(URLS_PER_REQUEST)]
    body = {"prompt": PROMPT, "operation": "edit", "images": urls, "size": "1024x1024"}
    headers = {"authorization": f"Bearer {ONE_CENT_BUDGET_KEY}"}
    return httpx.post(f"{url}/v1/jobs", json=body, headers=headers, timeout=60, trust_env=False)


@contextmanager
def flood_with_dead_urls(flow: OrderFlow, name_server: NameServer) -> Iterator[list[httpx.Response]]:
    """Keeps CONCURRENT_REQUESTS requests running during the block. Yields the list of responses."""
    answers: list[httpx.Response] = []
    stopped = threading.Event()

    def post_until_stopped() -> None:
        while not stopped.is_set():
            answers.append(post_dead_urls(flow.gateway.url))
            stopped.wait(0.5)

    before = name_server.query_counts.total()
    threads = [threading.Thread(target=post_until_stopped) for _ in range(CONCURRENT_REQUESTS)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: name_server.query_counts.total() > before, "names are looked up")
        time.sleep(0.5)
        yield answers
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def expect_fast_delivery(flow: OrderFlow, seller: str, **params: object) -> None:
    began = time.monotonic()
    job = flow.order_images(seller, **params)
    assert job["status"] == "completed", job
    assert time.monotonic() - began < MAX_DELIVERY_SECONDS


@pytest.mark.thorough
def test_dead_urls_of_one_team_do_not_affect_orders_or_seller_health(
    flow: OrderFlow, name_server: NameServer, web: PublicSite
) -> None:
    image_url = web.add_page("/image.png", make_image(640, 640), content_type="image/png")
    with flood_with_dead_urls(flow, name_server) as answers:
        for seller in SELLERS * 3:
            expect_fast_delivery(flow, seller)
        for seller in SELLERS:
            expect_fast_delivery(flow, seller, operation="edit", image=image_url, size="1024x1024")
        assert flow.gateway.has_only_healthy_sellers()
    assert flow.gateway.has_only_healthy_sellers()
    assert {answer.status_code for answer in answers} == {400, 429}
    for answer in answers:
        expect_dead_url_error(answer)
    # The team itself is not blocked.
    params = {"prompt": PROMPT, "quality": "low", "provider": {"only": [SELLERS[0]]}}
    assert flow.gateway.post_job(params, key=ONE_CENT_BUDGET_KEY).json()["status"] == "completed"


def expect_dead_url_error(answer: httpx.Response) -> None:
    error = answer.json()["error"]
    assert re.fullmatch(r"images\[\d+\]", error["param"])
    if answer.status_code == 400:
        assert error["code"] == "invalid_image_url"
        assert f"'{error['param']}'" in error["message"]
        assert "host name could not be resolved in time" in error["message"]
    else:
        assert error["code"] == "too_many_downloads"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.headers["x-should-retry"] == "true"


@pytest.mark.parametrize("gateway_and_store", [BY_NAME], indirect=True)
def test_nothing_outside_the_network_namespace_is_reachable(flow: OrderFlow, name_server: NameServer) -> None:
    """The namespace has only the loopback interface, and the gateway uses the test's name server."""
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    assert len(Path("/proc/thread-self/net/route").read_text().splitlines()) == 1
    process_folder = f"/proc/{flow.gateway.pid}"
    assert os.readlink(f"{process_folder}/ns/net") == os.readlink("/proc/thread-self/ns/net")
    assert Path(f"{process_folder}/root/etc/resolv.conf").read_text() == f"nameserver {name_server.address}\n"


@pytest.mark.parametrize("gateway_and_store", [BY_NAME], indirect=True)
def test_orders_continue_when_the_sellers_name_server_stops_responding(
    flow: OrderFlow, name_server: NameServer
) -> None:
    """The resolved addresses are still cached, also for orders that use a new connection."""
    expect_fast_delivery(flow, SELLERS[0])
    address = name_server.known_addresses.pop(SELLER_HOST)
    try:
        time.sleep(1.5 * CACHE_TTL_SECONDS)
        for seller in SELLERS:
            expect_fast_delivery(flow, seller)
        assert flow.gateway.has_only_healthy_sellers()
    finally:
        name_server.known_addresses[SELLER_HOST] = address
