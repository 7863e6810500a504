"""An adapter given any bytes whatever returns a Progress: random ones, mutated answers, JSON of every shape."""

import json
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers import ADAPTERS
from providers.faults import Fault, FaultKind
from providers.orders import Inline, Link
from providers.progress import Accepted, Failed, Listed, Note, Progress, Ready, Unanswered, Working
from providers.reading import ABSURD_USD, MICROS, MOST_PICTURES
from providers.spec import Adapter, Answer, Granted, Stored, Upload
from tests.contract import cases

EXAMPLES = 10_000
LEAVES = (
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
NAMES = st.sampled_from(
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
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=6),
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


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def _replaced(draw: st.DrawFn, value: Any) -> Any:
    """A fixture with one of its values, somewhere, replaced by anything."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(value)))
        return value | {name: _replaced(draw, value[name])}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _replaced(draw, value[at]), *value[at + 1 :]]
    return draw(JSON)


@st.composite
def bodies(draw: st.DrawFn, adapter: Adapter) -> bytes:
    """Noise; JSON of any shape; fixtures with a value replaced; fixtures with bytes replaced."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return _dumped(draw(JSON))
    seed = draw(st.sampled_from(cases.all_bodies(adapter)))
    if kind == 2:
        try:
            return _dumped(_replaced(draw, json.loads(seed)))
        except ValueError:
            return seed
    at = draw(st.integers(0, len(seed)))
    return seed[:at] + draw(st.binary(max_size=8)) + seed[at + draw(st.integers(0, 8)) :]


def check_progress(progress: Progress) -> None:
    """What the engine relies on, whatever the seller sent."""
    assert isinstance(progress, Accepted | Working | Ready | Failed | Unanswered | Listed)
    assert progress.id is None or (0 < len(progress.id) <= 200 and "/" not in progress.id)
    if isinstance(progress, Accepted):
        assert progress.id
    if isinstance(progress, Ready):
        assert 1 <= len(progress.pictures) <= MOST_PICTURES
        assert all(check_picture(picture) for picture in progress.pictures)
        assert progress.cost is None or (type(progress.cost) is int and 0 <= progress.cost <= ABSURD_USD * MICROS)
        assert set(progress.notes) <= set(Note)
    if isinstance(progress, Failed | Unanswered):
        check_fault(progress.fault)
    if isinstance(progress, Listed):
        for order in progress.orders:
            check_progress(order)


def check_picture(picture: object) -> bool:
    if isinstance(picture, Link):
        return picture.url.startswith(("http://", "https://")) and picture.url.isascii()
    return isinstance(picture, Inline) and bool(picture.data)


def check_fault(fault: Fault) -> None:
    assert fault.kind in FaultKind
    assert fault.code is None or (0 < len(fault.code) <= 80 and fault.code.isprintable())
    assert len(fault.message) <= 500
    assert fault.message.isprintable()
    assert fault.retry_after is None or fault.retry_after >= 0
    assert fault.cost is None or 0 <= fault.cost <= ABSURD_USD * MICROS


def read_with_every_step(adapter: Adapter, answer: Answer) -> None:
    check_progress(adapter.submit.read(answer))
    check_fault(adapter.error(answer))
    if adapter.poll:
        check_progress(adapter.poll.read(answer))
    if adapter.find:
        check_progress(adapter.find.read(answer))
    if adapter.callback:
        assert isinstance(adapter.callback.read(answer.body), str | None)
    for route in adapter.inputs:
        if isinstance(route, Upload):
            assert isinstance(route.prepare.read(answer), Granted | Unanswered)
            assert isinstance(route.put.read(answer), Stored | Unanswered)
            assert isinstance(route.confirm.read(answer), Link | Unanswered)


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=list(ADAPTERS))
def test_any_bytes_become_a_progress(adapter: Adapter) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(
        body=bodies(adapter),
        status=st.sampled_from([200, 201, 204, 302, 400, 404, 409, 429, 500, 503]),
        headers=HEADERS,
    )
    def check_any(body: bytes, status: int, headers: dict[str, str]) -> None:
        read_with_every_step(adapter, Answer(status, headers, body))

    check_any()


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=list(ADAPTERS))
@pytest.mark.parametrize("status", [*range(200, 600, 7), 199, 600, 999])
def test_any_status_becomes_a_progress(adapter: Adapter, status: int) -> None:
    for body in (b"", b"{}", b'{"error": {"code": "x", "message": "y"}}', b'{"code": 7}'):
        read_with_every_step(adapter, Answer(status, {}, body))


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=list(ADAPTERS))
@pytest.mark.parametrize("depth", [100, 900, 1_000, 100_000])
def test_deep_nesting_does_not_overflow(adapter: Adapter, depth: int) -> None:
    """Near the limit of recursion one step more, in a printer or a comparison, would raise."""
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
            read_with_every_step(adapter, Answer(200, {}, body))
            read_with_every_step(adapter, Answer(500, {}, body))


def test_the_kinds_of_progress_are_these() -> None:
    """A new one must be added to the checks above."""
    assert {kind.__name__ for kind in Progress.__subclasses__()} == {
        "Accepted",
        "Working",
        "Ready",
        "Failed",
        "Unanswered",
        "Listed",
    }
    assert get_args(Inline | Link) == (Inline, Link)
