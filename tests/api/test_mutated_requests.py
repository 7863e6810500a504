"""20,000 mutated requests to one running gateway cause no 5xx, no hang, no traceback, no leak and no order."""

from collections import Counter
from collections.abc import Iterable

import pytest

from tests.api.error_responses import INTERNAL_TRACES
from tests.api.form_fuzzer import FormFuzzer
from tests.api.parallel_requests import AnsweredRequest, RawRequest, send_requests
from tests.api.request_fuzzers import JsonFuzzer, PathFuzzer, RouteFuzzer
from tests.api.team_resources import RESOURCE_MAKERS
from tests.harness.gateway_runner import ADMIN_KEY, RunningGateway

pytestmark = pytest.mark.in_quick_run
JSON_COUNT, FORM_COUNT, ROUTE_COUNT, PATH_COUNT = 10_000, 3_500, 5_000, 1_500
MAX_SECONDS = 1.0
REPETITIONS = 5
MIB = 1 << 20
# Invalid HTTP, and callbacks with an invalid signature.
EXPECTED_WARNINGS = ("library", "callback handled")


def send_mutated_requests(gateway: RunningGateway, requests: Iterable[RawRequest]) -> list[AnsweredRequest]:
    """Sends the requests and checks each response."""
    sent = send_requests(gateway.url, requests)
    for request in sent:
        check_response(request)
    check_no_hang(gateway, [request for request in sent if request.seconds > MAX_SECONDS])
    assert gateway.process.poll() is None
    assert [line for line in gateway.read_problem_lines() if line["event"] not in EXPECTED_WARNINGS] == []
    return sent


def check_response(sent: AnsweredRequest) -> None:
    assert sent.status < 500, sent
    assert sent.headers["x-request-id"], sent
    if sent.status >= 400 and sent.request.method != b"HEAD":
        assert sent.parse_error().keys() == {"message", "type", "param", "code"}, sent
        text = sent.body.decode()
        assert not [trace for trace in INTERNAL_TRACES if trace in text], sent


def check_no_hang(gateway: RunningGateway, slow: list[AnsweredRequest]) -> None:
    """Sends slow requests again, one at a time: on a busy machine any request may be slow, but not each time."""
    for _ in range(REPETITIONS):
        repeated = send_requests(gateway.url, [sent.request for sent in slow], connection_count=1)
        slow = [sent for sent in repeated if sent.seconds > MAX_SECONDS]
    assert not slow, [str(sent) for sent in slow]


def count_codes(sent: Iterable[AnsweredRequest]) -> Counter[str]:
    return Counter(
        request.parse_error()["code"] for request in sent if request.status >= 400 and request.request.method != b"HEAD"
    )


def check_no_leak(gateway: RunningGateway, fuzzer: JsonFuzzer | FormFuzzer, count: int) -> list[AnsweredRequest]:
    """Sends the requests. The memory of the gateway does not grow after the first quarter."""
    first = send_mutated_requests(gateway, (fuzzer.make_request() for _ in range(count // 4)))
    resident = gateway.get_resident_bytes()
    rest = send_mutated_requests(gateway, (fuzzer.make_request() for _ in range(count - len(first))))
    assert gateway.get_resident_bytes() - resident < 40 * MIB
    return first + rest


def test_mutated_json_bodies_and_headers(gateway: RunningGateway) -> None:
    sent = check_no_leak(gateway, JsonFuzzer(20_261_121), JSON_COUNT)
    codes = count_codes(sent)
    assert len(codes) >= 8, f"too few kinds of mutations: {codes}"
    assert codes["no_offer"] > JSON_COUNT // 20, f"too few requests get past the checks: {codes}"


def test_mutated_forms(gateway: RunningGateway) -> None:
    charge_count = len(gateway.sandbox.list_charges())
    codes = count_codes(check_no_leak(gateway, FormFuzzer(20_261_127), FORM_COUNT))
    assert len(codes) >= 12, codes
    assert codes["no_offer"] > FORM_COUNT // 20, f"too few forms get past the checks: {codes}"
    gateway.wait_until_idle()
    assert len(gateway.sandbox.list_charges()) == charge_count


def test_mutated_requests_to_every_route(gateway: RunningGateway) -> None:
    known_ids = {name: make(gateway.http) for name, make in RESOURCE_MAKERS.items()}
    fuzzer = RouteFuzzer(20_261_201, known_ids, ADMIN_KEY)
    sent = send_mutated_requests(gateway, (fuzzer.make_request() for _ in range(ROUTE_COUNT)))
    assert Counter(request.status for request in sent)[200] > ROUTE_COUNT // 10, "too few valid requests"
    assert len(count_codes(sent)) >= 15
    gateway.wait_until_idle()


def test_mutated_paths_and_queries(gateway: RunningGateway) -> None:
    fuzzer = PathFuzzer(7)
    send_mutated_requests(gateway, (fuzzer.make_request() for _ in range(PATH_COUNT)))


def test_20_000_requests_are_sent() -> None:
    assert JSON_COUNT + FORM_COUNT + ROUTE_COUNT + PATH_COUNT == 20_000
