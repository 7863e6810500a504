"""Adapters return a Progress for any bytes: random ones, mutated answers, JSON of every shape."""

import json
import random
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.account_status import AccountStatus
from providers.adapter import Adapter, Answer, Upload, UploadDone, UploadGrant
from providers.charge_list import ChargePage
from providers.faults import Fault, FaultKind
from providers.order_status import Accepted, Failed, InProgress, NoAnswer, Progress, Ready, SearchResult, StatusNote
from providers.orders import ImageBytes, ImageUrl
from providers.parsing import MAX_IMAGES, MAX_PLAUSIBLE_USD, MICROS_PER_USD
from tests.contract import fixture_cases

EACH_EXAMPLE_COUNT = pytest.mark.parametrize("example_count", [50, pytest.param(500, marks=pytest.mark.thorough)])
EACH_MUTATION_COUNT = pytest.mark.parametrize(
    "mutation_count", [2_000, pytest.param(10_000, marks=pytest.mark.thorough)]
)
STATUSES = (200, 201, 204, 302, 400, 404, 409, 429, 500, 503)
JSON_TOKENS = (b"null", b"{}", b"[]", b'""', b"-1", b"1e999", b"true", b",", b'"', b"}", b"\\u0000", b"\xff")
JSON_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=20)
    | st.sampled_from(
        [
            *("succeeded", "completed", "failed", "queued", "processing", "canceled"),
            *("1e999999", "-0", "NaN", "sNaN", "Infinity", "٣", "0x10", "1_0", "0.133"),
            *("https://a.example/x.png", "data:image/png;base64,AAAA", "data:image/png;base64,%", "javascript:1"),
            *(-1, 10**40, 1e308, float("nan"), "\ud800", "../..", "a" * 300),
        ]
    )
)
FIELD_NAMES = st.sampled_from(
    [
        *("id", "task_id", "run_id", "status", "status_code", "output", "outputs", "images", "image", "image_urls"),
        *(
            "url",
            "b64_json",
            "data",
            "usage",
            "cost",
            "billing",
            "settlement",
            "charged_amount_cents",
            "error",
            "errors",
        ),
        *("code", "message", "detail", "items", "client_ref", "failure_code", "failure_message", "type"),
        *("input_tokens_details", "output_tokens", "text_tokens", "image_tokens", "asset_id", "upload_url", "headers"),
        *("signed_id", "output_url"),
    ]
)
JSON_VALUES = st.recursive(
    JSON_LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELD_NAMES | st.text(max_size=5), inner, max_size=6),
    max_leaves=25,
)
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "date", "x-runapi-task-id", "content-type", "location"]),
    st.text(max_size=40)
    | st.sampled_from(
        ["5", "-1", "1e9", "Mon, 01 Jun 2026 10:00:30 GMT", "Mon, 99 Jun 20260 99:00:30 GMT", "../x", "t-1"]
    ),
    max_size=3,
)


def _dump_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _replace_random_value(draw: st.DrawFn, value: Any) -> Any:
    """Replaces one value somewhere in a fixture by any other."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(value)))
        return value | {name: _replace_random_value(draw, value[name])}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], _replace_random_value(draw, value[index]), *value[index + 1 :]]
    return draw(JSON_VALUES)


@st.composite
def response_bodies(draw: st.DrawFn, adapter: Adapter) -> bytes:
    """Generates random bytes, JSON of any shape, and fixtures with a replaced value or replaced bytes."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return _dump_json(draw(JSON_VALUES))
    seed = draw(st.sampled_from(fixture_cases.list_bodies(adapter)))
    if kind == 2:
        try:
            return _dump_json(_replace_random_value(draw, json.loads(seed)))
        except ValueError:
            return seed
    position = draw(st.integers(0, len(seed)))
    return seed[:position] + draw(st.binary(max_size=8)) + seed[position + draw(st.integers(0, 8)) :]


def check_order_status(status: Progress) -> None:
    """Checks all that the engine relies on."""
    assert isinstance(status, Accepted | InProgress | Ready | Failed | NoAnswer | SearchResult)
    assert status.id is None or (0 < len(status.id) <= 200 and "/" not in status.id)
    if isinstance(status, Accepted):
        assert status.id
    if isinstance(status, Ready):
        assert 1 <= len(status.images) <= MAX_IMAGES
        assert all(is_valid_image(image) for image in status.images)
        assert status.cost is None or (
            type(status.cost) is int and 0 <= status.cost <= MAX_PLAUSIBLE_USD * MICROS_PER_USD
        )
        assert set(status.notes) <= set(StatusNote)
    if isinstance(status, Failed | NoAnswer):
        check_fault(status.fault)
    if isinstance(status, SearchResult):
        for order in status.orders:
            check_order_status(order)


def is_valid_image(image: object) -> bool:
    if isinstance(image, ImageUrl):
        return image.url.startswith(("http://", "https://")) and image.url.isascii()
    return isinstance(image, ImageBytes) and bool(image.data)


def check_fault(fault: Fault) -> None:
    assert fault.kind in FaultKind
    assert fault.code is None or (0 < len(fault.code) <= 80 and fault.code.isprintable())
    assert len(fault.message) <= 500
    assert fault.message.isprintable()
    assert fault.retry_after is None or fault.retry_after >= 0
    assert fault.cost is None or 0 <= fault.cost <= MAX_PLAUSIBLE_USD * MICROS_PER_USD


def check_account_status(status: AccountStatus | NoAnswer) -> None:
    if isinstance(status, NoAnswer):
        check_fault(status.fault)
    else:
        assert status.balance is None or type(status.balance) is int


def check_charges(page: ChargePage | NoAnswer) -> None:
    if isinstance(page, NoAnswer):
        check_fault(page.fault)
    else:
        assert all(type(charge.amount) is int and charge.order_id for charge in page.charges)
        assert isinstance(page.next_cursor, str)


def read_with_every_endpoint(adapter: Adapter, answer: Answer) -> None:
    check_order_status(adapter.submit.read_answer(answer))
    check_fault(adapter.parse_error(answer))
    if adapter.poll:
        check_order_status(adapter.poll.read_answer(answer))
    if adapter.search:
        check_order_status(adapter.search.read_answer(answer))
    if adapter.check:
        check_account_status(adapter.check.read_answer(answer))
    if adapter.list_charges:
        check_charges(adapter.list_charges.read_answer(answer))
    if adapter.callback:
        assert isinstance(adapter.callback.parse_order_id(answer.body), str | None)
    for route in adapter.input_transports:
        if isinstance(route, Upload):
            assert isinstance(route.prepare.read_answer(answer), UploadGrant | NoAnswer)
            assert isinstance(route.put.read_answer(answer), UploadDone | NoAnswer)
            assert isinstance(route.confirm.read_answer(answer), ImageUrl | NoAnswer)


@EACH_EXAMPLE_COUNT
@fixture_cases.EACH_ADAPTER
def test_arbitrary_bytes_become_order_status(adapter: Adapter, example_count: int) -> None:
    @settings(max_examples=example_count, suppress_health_check=list(HealthCheck), database=None)
    @given(
        body=response_bodies(adapter),
        status=st.sampled_from(STATUSES),
        headers=HEADERS,
    )
    def check_body(body: bytes, status: int, headers: dict[str, str]) -> None:
        read_with_every_endpoint(adapter, Answer(status, headers, body))

    check_body()


@EACH_MUTATION_COUNT
@fixture_cases.EACH_ADAPTER
def test_mutated_fixtures_become_order_status(adapter: Adapter, mutation_count: int) -> None:
    """Far quicker per case than hypothesis, and the same cases in each run."""
    random_source = random.Random(adapter.name)  # noqa: S311
    bodies = fixture_cases.list_bodies(adapter)
    for number in range(mutation_count):
        body = mutate_bytes(random_source, random_source.choice(bodies))
        try:
            read_with_every_endpoint(adapter, Answer(random_source.choice(STATUSES), {}, body))
        except Exception as error:
            error.add_note(f"mutation {number}: {body!r}")
            raise


def mutate_bytes(random_source: random.Random, body: bytes) -> bytes:
    """Replaces, deletes, repeats or inserts bytes in one to three places."""
    for _ in range(random_source.randint(1, 3)):
        start = random_source.randint(0, len(body))
        end = min(len(body), start + random_source.randint(0, 8))
        replacement = random_source.choice(
            [b"", body[start:end] * 2, random_source.randbytes(random_source.randint(1, 4)), *JSON_TOKENS]
        )
        body = body[:start] + replacement + body[end:]
    return body


@fixture_cases.EACH_ADAPTER
@pytest.mark.parametrize("status", [*range(200, 600, 7), 199, 600, 999])
def test_any_http_status_becomes_order_status(adapter: Adapter, status: int) -> None:
    for body in (b"", b"{}", b'{"error": {"code": "x", "message": "y"}}', b'{"code": 7}'):
        read_with_every_endpoint(adapter, Answer(status, {}, body))


@fixture_cases.EACH_ADAPTER
@pytest.mark.parametrize("depth", [100, 900, 1_000, 100_000])
def test_deep_nesting_does_not_overflow(adapter: Adapter, depth: int) -> None:
    """Formatting or comparing such a value needs more levels than parsing it, and would raise."""
    for opening, closing in [
        (b"[", b"]"),
        *((b'{"%s":' % name, b"}") for name in (b"output", b"image", b"error", b"usage", b"data")),
    ]:
        nested = opening * depth + b"1" + closing * depth
        for body in (
            nested,
            b'{"id":"a","status":"completed","status_code":"succeeded","images":[],"output":%s,"cost":%s}'
            % (nested, nested),
        ):
            read_with_every_endpoint(adapter, Answer(200, {}, body))
            read_with_every_endpoint(adapter, Answer(500, {}, body))


def test_order_status_classes_are_complete() -> None:
    """A new class must be added to the checks above."""
    assert {kind.__name__ for kind in Progress.__subclasses__()} == {
        "Accepted",
        "InProgress",
        "Ready",
        "Failed",
        "NoAnswer",
        "SearchResult",
    }
    assert get_args(ImageBytes | ImageUrl) == (ImageBytes, ImageUrl)
