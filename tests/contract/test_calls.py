"""What each adapter sends: nothing it has words for is left out, nothing it has no words for slips through."""

import json
import re
from typing import Any

import msgspec
import pytest
from msgspec import structs

from providers import ADAPTERS
from providers.orders import Feature, InexpressibleError, Operation, Order, Reference, Ticket
from providers.spec import Adapter, Call, DataUri, Granted, Multipart, Upload, UploadTo
from tests.contract import cases, orders

EACH_ADAPTER = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=list(ADAPTERS))
EACH_OPERATION = pytest.mark.parametrize(
    ("adapter", "operation"),
    [
        pytest.param(adapter, operation, id=f"{operation}-{name}")
        for name, adapter in ADAPTERS.items()
        for operation in adapter.speaks.operations
    ],
)


@EACH_OPERATION
@pytest.mark.parametrize("feature", list(Feature))
def test_a_feature_changes_the_call_or_is_refused_by_name(
    adapter: Adapter, operation: Operation, feature: Feature
) -> None:
    """Never bend a request in silence."""
    plain = orders.plain(adapter, operation)
    asked = orders.using(plain, feature)
    if feature in adapter.speaks.features(operation):
        assert adapter.submit.ask(asked) != adapter.submit.ask(plain)
    else:
        with pytest.raises(InexpressibleError, match=re.escape(feature)):
            adapter.submit.ask(asked)


@EACH_OPERATION
def test_counts_beyond_what_the_dialect_can_say_are_refused(adapter: Adapter, operation: Operation) -> None:
    plain = orders.plain(adapter, operation)
    for images in (0, -1, adapter.speaks.most_images + 1):
        with pytest.raises(InexpressibleError):
            adapter.submit.ask(structs.replace(plain, images=images))
    source, most = orders.a_source(adapter, Operation.EDIT), adapter.speaks.most_sources
    for sources in ((), (source,) * (most + 1)) if operation is Operation.EDIT else ((source,),):
        with pytest.raises(InexpressibleError):
            adapter.submit.ask(structs.replace(plain, sources=sources))


@EACH_ADAPTER
def test_an_operation_that_the_dialect_does_not_know_is_refused(adapter: Adapter) -> None:
    for operation in set(Operation) - set(adapter.speaks.operations):
        known = orders.plain(adapter, adapter.speaks.operations[0])
        sources = (orders.a_source(adapter, operation),) if operation is Operation.EDIT else ()
        with pytest.raises(InexpressibleError):
            adapter.submit.ask(structs.replace(known, operation=operation, sources=sources))


def test_this_suite_holds_for_an_adapter_of_one_operation() -> None:
    """None of those that are here is one, so that nobody would notice that the suite cannot take it."""
    spoken = structs.replace(ADAPTERS["openai"].speaks, edit=frozenset(), most_sources=0)
    adapter = structs.replace(ADAPTERS["openai"], speaks=spoken, inputs=())
    assert adapter.speaks.operations == (Operation.GENERATE,)
    test_counts_beyond_what_the_dialect_can_say_are_refused(adapter, Operation.GENERATE)
    test_the_secret_travels_in_headers_and_nowhere_else(adapter)
    test_a_dialect_says_how_inputs_get_there(adapter)


@EACH_OPERATION
def test_everything_at_once_stands_in_the_call(adapter: Adapter, operation: Operation) -> None:
    order = orders.everything(adapter, operation)
    said = sent(adapter.submit.ask(order))
    assert order.prompt in said
    assert order.model in said or order.model.replace("-", "_") in said
    for value in (order.quality, order.output_format, order.callback_url, *order.metadata.values()):
        assert value is None or value in said


@EACH_OPERATION
def test_the_same_order_makes_the_same_bytes(adapter: Adapter, operation: Operation) -> None:
    """A replay with the same key must be the same request."""
    order = orders.everything(adapter, operation)
    assert adapter.submit.ask(order) == adapter.submit.ask(structs.replace(order))


@EACH_OPERATION
def test_a_replay_key_is_our_reference(adapter: Adapter, operation: Operation) -> None:
    order = orders.plain(adapter, operation)
    assert adapter.submit.ask(order).headers.get("idempotency-key") == (order.reference if adapter.replay_key else None)


@EACH_OPERATION
@pytest.mark.parametrize("prompt", ["", "ü " * 16_000, '"}\\\n\r\0', "\u202e‮🏳️‍🌈", "--boundary\r\n\r\n"])
def test_any_prompt_travels_unchanged(adapter: Adapter, operation: Operation, prompt: str) -> None:
    call = adapter.submit.ask(structs.replace(orders.plain(adapter, operation), prompt=prompt))
    if isinstance(call.body, bytes):
        assert prompt in _strings(json.loads(call.body))
    else:
        assert prompt.encode() in [part.data for part in call.body]


@EACH_ADAPTER
def test_the_secret_travels_in_headers_and_nowhere_else(adapter: Adapter) -> None:
    headers = adapter.authorize("s3cret")
    assert any("s3cret" in value for value in headers.values())
    for call in every_call(adapter):
        assert "authorization" not in call.headers
        assert call.presigned == call.location.startswith("http")
        assert call.presigned or call.location.startswith("/")
        assert all(name == name.lower() and value.isascii() for name, value in call.headers.items())


@EACH_ADAPTER
def test_a_dialect_says_how_inputs_get_there(adapter: Adapter) -> None:
    """Bytes go with the order where it has words for bytes; else they become links."""
    spoken = adapter.speaks.edit
    inline = any(isinstance(route, Multipart) for route in adapter.inputs)
    linked = any(isinstance(route, DataUri | Upload) for route in adapter.inputs)
    assert inline == (Feature.INLINE_SOURCES in spoken)
    assert linked == (Feature.LINKED_SOURCES in spoken)


@EACH_ADAPTER
def test_adapters_are_listed_under_their_names(adapter: Adapter) -> None:
    assert ADAPTERS[adapter.name] is adapter
    assert adapter.docs.startswith("https://")
    assert re.fullmatch(r"[a-z][a-z_]*", adapter.name)


def every_call(adapter: Adapter) -> list[Call]:
    """One call of every kind that the dialect can make."""
    calls = [adapter.submit.ask(orders.everything(adapter, operation)) for operation in adapter.speaks.operations]
    if adapter.poll:
        calls.append(adapter.poll.ask(Ticket("0190-ab", adapter.speaks.operations[-1], cases.model(adapter))))
    if adapter.find:
        calls += [adapter.find.ask(Reference("igw-0f-7k2m-0-1", asked)) for asked in (0, 1)]
    for route in adapter.inputs:
        if isinstance(route, Upload):
            granted = Granted("handle", "https://storage.example.net/put?sig=1", {"content-type": "image/png"})
            calls += [
                route.prepare.ask(orders.INLINE),
                route.put.ask(UploadTo(orders.INLINE, granted)),
                route.confirm.ask(granted),
            ]
    return calls


def sent(call: Call) -> str:
    body = (
        call.body
        if isinstance(call.body, bytes)
        else msgspec.json.encode([part.data.decode("latin-1") for part in call.body])
    )
    return call.location + body.decode()


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _strings(one)]
    return [value] if isinstance(value, str) else []


def test_runflow_searches_in_both_spellings_of_a_filter() -> None:
    """The pages show one, real clients send the other; searching again tries the other one."""
    find = ADAPTERS["runflow_runs"].find
    assert find is not None
    asked = [find.ask(Reference("igw-1", number)).location for number in range(3)]
    assert asked[0] == "/v1/runs?q=client_ref.EQ%3A%27igw-1%27&limit=10"
    assert asked[1] == "/v1/runs?q=client_ref%3Aigw-1&limit=10"
    assert asked[2] == asked[0]


def test_a_reference_cannot_break_out_of_a_search() -> None:
    find = ADAPTERS["runflow_runs"].find
    assert find is not None
    for hostile in ("", "a' OR status_code:'failed", "a&limit=500", "a b", "ä"):
        with pytest.raises(InexpressibleError):
            find.ask(Reference(hostile))


def test_runapi_refuses_what_it_has_no_such_ratio_or_tier_for() -> None:
    from providers.orders import Shape
    from providers.sizes import RATIOS, Resolution

    adapter = ADAPTERS["runapi"]
    plain = orders.plain(adapter, Operation.GENERATE)

    def ask(ratio: str, resolution: Resolution) -> Call:
        return adapter.submit.ask(structs.replace(plain, size=Shape(ratio, resolution)))

    for ratio in RATIOS:
        for resolution in Resolution:
            if (ratio, resolution) == ("1:1", Resolution.FOUR_K):
                with pytest.raises(InexpressibleError):
                    ask(ratio, resolution)
            else:
                body = json.loads(ask(ratio, resolution).body)
                assert (body["aspect_ratio"], body["output_resolution"]) == (ratio, resolution)
    for ratio in ("auto", "7:5", "", "16/9"):
        with pytest.raises(InexpressibleError):
            ask(ratio, Resolution.TWO_K)


GOLDEN: list[tuple[str, Operation, str, dict[str, Any]]] = [
    (
        "runflow_runs",
        Operation.GENERATE,
        "/v1/models/openai/gpt-image-2/runs",
        {
            "input": {
                "prompt": "a lighthouse at dawn",
                "num_images": 2,
                "image_size": {"width": 1024, "height": 768},
                "quality": "low",
                "output_format": "webp",
            },
            "callback_url": "https://gateway.example.net/callbacks/x",
            "metadata": {"team": "design"},
            "client_ref": "igw-0f-7k2m-0-1",
        },
    ),
    (
        "runflow_run",
        Operation.EDIT,
        "/v1/run/openai/gpt-image-2/edit",
        {
            "prompt": "a lighthouse at dawn",
            "num_images": 2,
            "image_size": {"width": 1024, "height": 768},
            "quality": "low",
            "output_format": "webp",
            "image_urls": [orders.LINK.url, orders.LINK.url],
            "mask_url": orders.LINK.url,
        },
    ),
    (
        "runapi",
        Operation.EDIT,
        "/api/v1/gpt_image_2/edit_image",
        {
            "model": "gpt-image-2",
            "prompt": "a lighthouse at dawn",
            "aspect_ratio": "16:9",
            "output_resolution": "2k",
            "source_image_urls": [orders.LINK.url, orders.LINK.url],
            "callback_url": "https://gateway.example.net/callbacks/x",
        },
    ),
    (
        "openai",
        Operation.GENERATE,
        "/images/generations",
        {
            "model": "gpt-image-2",
            "prompt": "a lighthouse at dawn",
            "n": 2,
            "size": "1024x768",
            "quality": "low",
            "output_format": "webp",
        },
    ),
]


@pytest.mark.parametrize(("name", "operation", "path", "body"), GOLDEN)
def test_the_wire_is_as_the_sellers_page_has_it(
    name: str, operation: Operation, path: str, body: dict[str, Any]
) -> None:
    call = ADAPTERS[name].submit.ask(orders.everything(ADAPTERS[name], operation))
    assert (call.method, call.location) == ("POST", path)
    assert json.loads(call.body) == body  # type: ignore[arg-type]


def test_an_edit_at_openai_is_a_form_with_its_images_in_order() -> None:
    adapter = ADAPTERS["openai"]
    order: Order = orders.everything(adapter, Operation.EDIT)
    call = adapter.submit.ask(order)
    parts = [(part.field, part.filename) for part in call.body]  # type: ignore[union-attr]
    assert parts[-3:] == [("image[]", "in.png"), ("image[]", "in.png"), ("mask", "in.png")]
    lone = adapter.submit.ask(structs.replace(order, sources=(orders.INLINE,), mask=None))
    assert [part.field for part in lone.body][-1] == "image"  # type: ignore[union-attr]


def test_models_of_the_next_family_share_one_service_at_runapi() -> None:
    adapter = ADAPTERS["runapi"]
    order = structs.replace(orders.plain(adapter, Operation.GENERATE), model="gpt-image-2.5-flare")
    assert adapter.submit.ask(order).location == "/api/v1/gpt_image_2_5/text_to_image"
    assert adapter.poll is not None
    polled = adapter.poll.ask(Ticket("t-1", Operation.EDIT, "gpt-image-2.5-flare"))
    assert polled.location == "/api/v1/gpt_image_2_5/edit_image/t-1"
