"""A retry returns its job even if the same request would be rejected by now."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from msgspec import Struct

from tests.flow.flow_config import OTHER_TEAM_KEY, GatewaySetup
from tests.flow.gateway_on_store import STORE_KINDS, GatewayAndStore, run_gateway_on_store
from tests.flow.order_flow import OrderFlow
from tests.flow.public_site import PublicSite, run_public_site
from tests.harness.sample_images import make_image
from tests.harness.sandbox_runner import RunningSandbox

SELLER, IMAGE, IMAGE_PATH = "runflow-runs", make_image(640, 640), "/image.png"
PRICE_LINE = 'price: "0.009"'
EACH_RETRY_METHOD = pytest.mark.parametrize("method", ["key", "sdk"])
JobBody = dict[str, Any]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublicSite]:
    with run_public_site(tmp_path_factory.mktemp("web")) as web:
        yield web


@pytest.fixture(scope="module", params=STORE_KINDS)
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def gateway_folder(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(f"repeated-{store}")


@pytest.fixture(scope="module")
def gateway_and_store(
    store: str, gateway_folder: Path, web: PublicSite, sandbox_process: RunningSandbox
) -> Iterator[GatewayAndStore]:
    """A gateway of its own, because the tests change its configuration."""
    with run_gateway_on_store(store, gateway_folder, sandbox_process, web.add_to_setup(GatewaySetup())) as running:
        yield running


@pytest.fixture
def config_folder(gateway_and_store: GatewayAndStore, gateway_folder: Path, tmp_path: Path) -> Iterator[Path]:
    """The configuration's folder. Its files are restored after the test."""
    folder = next(gateway_folder.rglob("offers")).parent
    shutil.copytree(folder, tmp_path / "before")
    yield folder
    shutil.copytree(tmp_path / "before", folder, dirs_exist_ok=True)
    gateway_and_store[0].reload_config()


class RetryScenario:
    """A request, its retry, and a change between them."""

    def __init__(self, flow: OrderFlow, config_folder: Path, web: PublicSite) -> None:
        self.flow, self._config_folder, self._web = flow, config_folder, web
        self._unique_name = str(uuid4())
        web.request_counts.clear()
        web.add_page(IMAGE_PATH, IMAGE, content_type="image/png")

    def make_first_headers(self, method: str) -> dict[str, str]:
        """Returns the headers of a first request: an idempotency key, or an SDK's retry count of 0."""
        return {"idempotency-key": self._unique_name} if method == "key" else {"x-stainless-retry-count": "0"}

    def make_retry_headers(self, method: str) -> dict[str, str]:
        return self.make_first_headers(method) if method == "key" else {"x-stainless-retry-count": "1"}

    def make_generation(self, **extra_params: object) -> JobBody:
        return {
            "prompt": self._unique_name,
            "quality": "low",
            "provider": {"only": [SELLER]},
            "max_price": "0.02",
            **extra_params,
        }

    def make_edit(self) -> JobBody:
        return self.make_generation(operation="edit", image=self._web.make_url(IMAGE_PATH), size="1024x1024")

    def raise_price(self) -> None:
        path = self._config_folder / "offers" / f"{SELLER}.yaml"
        path.write_text(path.read_text().replace(PRICE_LINE, 'price: "0.03"'))
        self.flow.gateway.reload_config()

    def remove_seller(self) -> None:
        """Removes the seller's offers, and the policies that name it."""
        (self._config_folder / "offers" / f"{SELLER}.yaml").unlink()
        policies, teams = (
            json.loads((self._config_folder / f"{name}.yaml").read_text()) for name in ("policies", "teams")
        )
        remaining_policies = {
            name: policy for name, policy in policies["policies"].items() if SELLER not in policy.get("sellers", ())
        }
        for team in teams["teams"].values():
            team["policies"] = [name for name in team.get("policies", remaining_policies) if name in remaining_policies]
        (self._config_folder / "policies.yaml").write_text(json.dumps({**policies, "policies": remaining_policies}))
        (self._config_folder / "teams.yaml").write_text(json.dumps(teams))
        self.flow.gateway.reload_config()

    def remove_image(self) -> None:
        del self._web.pages[IMAGE_PATH]

    def count_fetches(self) -> int:
        return self._web.request_counts[IMAGE_PATH]


@pytest.fixture
def scenario(flow: OrderFlow, config_folder: Path, web: PublicSite) -> RetryScenario:
    return RetryScenario(flow, config_folder, web)


class Change(Struct, frozen=True):
    """A request, and a change after it that would reject the same request today."""

    make_body: Callable[[RetryScenario], JobBody]
    apply: Callable[[RetryScenario], None]


EACH_CHANGE = pytest.mark.parametrize(
    "change",
    [
        Change(RetryScenario.make_generation, RetryScenario.raise_price),
        Change(RetryScenario.make_generation, RetryScenario.remove_seller),
        Change(RetryScenario.make_edit, RetryScenario.remove_image),
    ],
    ids=["price", "seller", "url"],
)


def expect_rejection(answer: httpx.Response) -> str:
    assert answer.status_code in (400, 422), answer.text
    return str(answer.json()["error"]["code"])


def assert_is_replayed_job(answer: httpx.Response, first: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    assert answer.headers["idempotent-replayed"] == "true"
    assert answer.json()["id"] == first.json()["id"]
    assert answer.json()["status"] == "completed"


def assert_ordered_once(scenario: RetryScenario, change: Change) -> None:
    assert scenario.flow.count_orders(SELLER) == 1
    assert scenario.count_fetches() == (change.make_body is RetryScenario.make_edit)


@pytest.mark.one_in(3)
@EACH_CHANGE
@EACH_RETRY_METHOD
def test_retry_returns_the_running_job_despite_a_change(scenario: RetryScenario, change: Change, method: str) -> None:
    scenario.flow.sandbox.set_latency(1.0)
    body, gateway = change.make_body(scenario), scenario.flow.gateway
    first = gateway.post_job(body, **scenario.make_first_headers(method), prefer="wait=0")
    assert first.status_code == 202
    change.apply(scenario)
    assert_is_replayed_job(gateway.post_job(body, **scenario.make_retry_headers(method)), first)
    assert_ordered_once(scenario, change)


@EACH_CHANGE
@EACH_RETRY_METHOD
def test_retry_returns_the_completed_job_despite_a_change(scenario: RetryScenario, change: Change, method: str) -> None:
    body, gateway = change.make_body(scenario), scenario.flow.gateway
    first = gateway.post_job(body, **scenario.make_first_headers(method))
    assert first.json()["status"] == "completed"
    change.apply(scenario)
    assert_is_replayed_job(gateway.post_job(body, **scenario.make_retry_headers(method)), first)
    assert_ordered_once(scenario, change)


@EACH_RETRY_METHOD
def test_retry_on_the_openai_route_returns_the_job_despite_a_change(scenario: RetryScenario, method: str) -> None:
    first = scenario.flow.gateway.post_generation(scenario.make_generation(), **scenario.make_first_headers(method))
    scenario.remove_seller()
    retry = scenario.flow.gateway.post_generation(scenario.make_generation(), **scenario.make_retry_headers(method))
    assert retry.status_code == 200, retry.text
    assert retry.headers["x-igw-job-id"] == first.headers["x-igw-job-id"]
    assert retry.json() == first.json()
    assert scenario.flow.count_orders(SELLER) == 1


@EACH_CHANGE
def test_reused_key_with_another_body_is_rejected_despite_a_change(scenario: RetryScenario, change: Change) -> None:
    body, gateway = change.make_body(scenario), scenario.flow.gateway
    assert gateway.post_job(body, **scenario.make_first_headers("key")).status_code == 200
    change.apply(scenario)
    answer = gateway.post_job({**body, "prompt": "something else"}, **scenario.make_retry_headers("key"))
    assert expect_rejection(answer) == "idempotency_key_reused"
    assert_ordered_once(scenario, change)


@EACH_CHANGE
@EACH_RETRY_METHOD
def test_other_team_with_the_same_key_is_rejected_after_a_change(
    scenario: RetryScenario, change: Change, method: str
) -> None:
    body, gateway = change.make_body(scenario), scenario.flow.gateway
    assert gateway.post_job(body, **scenario.make_first_headers(method)).status_code == 200
    change.apply(scenario)
    codes = {
        expect_rejection(gateway.post_job(body, key=OTHER_TEAM_KEY, **scenario.make_retry_headers(method))),
        expect_rejection(gateway.post_job(body)),
    }
    assert codes <= {"no_offer", "invalid_value", "invalid_image_url"}
    assert len(codes) == 1
    assert scenario.flow.count_orders(SELLER) == 1
