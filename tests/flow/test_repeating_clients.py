"""Clients that repeat by themselves buy once, however a request ends: OpenAI's own, and one that looks at the status
alone, as most do. `python -m bench.purchases` measures more of them."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import IO, Any
from uuid import uuid4

import httpx
import openai
import pytest
from msgspec import Struct

from tests.clients.test_openai_node import HERE, node  # noqa: F401  a fixture
from tests.flow.configuration import KEY, POOR_KEY, Setup
from tests.flow.gateways import PROMPT, Flow
from tests.flow.places import Kept, kept_on
from tests.vendors import Vendors

ROUTE = "/v1/images/generations"
SETUP = Setup(constants={"gateway.api.failures.UNAVAILABLE_SECONDS": 1})
REPEATED = (408, 409, 429, 500, 502, 503, 504)
TIMES = 3
Ask = Callable[[str, str, dict[str, Any]], int]


class Case(Struct, frozen=True, kw_only=True):
    """How a request ends without a picture, and the answer that its client gets; `charges` of one call."""

    name: str
    status: int
    code: str
    faults: tuple[dict[str, Any], ...] = ()
    charges: int = 0
    seller: str = "openai"
    key: str = KEY
    more: dict[str, Any] = {}


def status(number: int, **more: Any) -> dict[str, Any]:
    return {"kind": "status", "status": number, "route": "submit", **more}


CASES = (
    Case(name="bare 500", faults=(status(500, accepted=True),), status=424, code="outcome_unknown", charges=1),
    Case(name="409", faults=(status(409, accepted=True),), status=424, code="outcome_unknown", charges=1),
    Case(name="answer lost", faults=({"kind": "reset_after"},), status=424, code="outcome_unknown", charges=1),
    Case(
        name="bare 503",
        faults=({"kind": "html", "status": 503, "accepted": True},),
        status=424,
        code="outcome_unknown",
        charges=1,
    ),
    Case(
        name="no JSON",
        faults=({"kind": "html", "status": 200, "accepted": True},),
        status=424,
        code="outcome_unknown",
        charges=1,
    ),
    Case(name="empty", faults=({"kind": "empty_outputs"},), status=424, code="paid_not_delivered", charges=1),
    Case(name="failed", faults=({"kind": "fail"},), status=424, code="sellers_failed", seller="runapi"),
    Case(name="refused", faults=(status(400),), status=424, code="order_refused"),
    Case(name="content", faults=({"kind": "refuse_content"},), status=400, code="moderation_blocked"),
    Case(name="mistake", more={"size": "17x17"}, status=400, code="invalid_value"),
)
REPEATABLE = (
    Case(name="no seller", faults=(status(401),), status=503, code="sellers_unavailable"),
    Case(name="budget", key=POOR_KEY, more={"quality": "high"}, status=429, code="insufficient_quota"),
)


@pytest.fixture(scope="module")
def kept(sandbox_process: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    with kept_on("sqlite", tmp_path_factory.mktemp("repeating"), sandbox_process, SETUP) as kept:
        yield kept


def by_status(url: str, key: str, body: dict[str, Any]) -> int:
    """As urllib3 does it with a `Retry`, and whatever is built on it."""
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=60) as http:
        for _ in range(TIMES):
            answer = http.post(ROUTE, json=body)
            if answer.status_code not in REPEATED:
                break
            time.sleep(float(answer.headers.get("retry-after", "0.1")))
        return answer.status_code


def by_openai(url: str, key: str, body: dict[str, Any]) -> int:
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, http_client=http) as client:
        try:
            client.images.generate(prompt=body["prompt"], extra_body=body)
        except openai.APIStatusError as error:
            return error.status_code
    return 200


@pytest.fixture(scope="module")
def by_node(node: str) -> Iterator[Ask]:  # noqa: F811  the fixture above
    """One process for all: node takes a while to start."""
    command = [node, str(HERE / "repeating.mjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        given: IO[str] = process.stdin
        answers: IO[str] = process.stdout

        def ask(url: str, key: str, body: dict[str, Any]) -> int:
            line = {"url": url, "key": key, "prompt": body["prompt"], "more": body}
            given.write(json.dumps(line) + "\n")
            given.flush()
            return int(json.loads(answers.readline())["status"])

        yield ask
        given.close()


@pytest.fixture(params=["by status", "openai", "openai node"])
def ask(request: pytest.FixtureRequest) -> Ask:
    if request.param == "openai node":
        found: Ask = request.getfixturevalue("by_node")
        return found
    return by_openai if request.param == "openai" else by_status


def requests(flow: Flow) -> float:
    return flow.gateway.metric("igw_http_request_seconds_count", route=ROUTE)


def run(flow: Flow, case: Case, ask: Ask) -> tuple[int, float]:
    """The status that the client ended with, and how many requests it sent."""
    for fault in case.faults:
        flow.sandbox.fault(**fault)
    before = requests(flow)
    return ask(flow.gateway.url, case.key, body_of(case)), requests(flow) - before


def body_of(case: Case) -> dict[str, Any]:
    """No other test's: what was asked before, and may have been bought, is not bought again."""
    one = {"prompt": PROMPT, "quality": "low", "user": uuid4().hex, "provider": {"only": [case.seller]}}
    return one | case.more


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answer_makes_no_client_buy_twice(flow: Flow, case: Case, ask: Ask) -> None:
    assert run(flow, case, ask) == (case.status, 1)
    assert len(flow.sandbox.charges()) == case.charges


@pytest.mark.parametrize("case", REPEATABLE, ids=lambda case: case.name)
def test_what_is_repeated_has_bought_nothing(flow: Flow, case: Case, ask: Ask) -> None:
    status, sent = run(flow, case, ask)
    assert status == case.status
    assert sent > 1 or ask is not by_status
    assert flow.sandbox.charges() == []
    assert flow.booked() == {}


@pytest.mark.parametrize("case", [*CASES, *REPEATABLE], ids=lambda case: case.name)
def test_the_code_says_which_it_is(flow: Flow, case: Case) -> None:
    for fault in case.faults:
        flow.sandbox.fault(**fault)
    answer = flow.gateway.generate(body_of(case), key=case.key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (case.status, case.code)
    assert ("retry-after" in answer.headers) is (case.status == 503)
    assert ("x-should-retry" in answer.headers) is (case.status != 503)
