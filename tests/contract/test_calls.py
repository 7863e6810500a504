"""The calls of each adapter: they contain every supported feature, and unsupported ones are rejected."""

import json
import re
from typing import Any

import msgspec
import pytest
from msgspec import structs

from providers import ADAPTERS
from providers.adapter import Adapter, Call, DataUri, Multipart, Upload, UploadGrant, UploadRequest
from providers.orders import Feature, Operation, Order, OrderReference, Ticket, UnsupportedOrder
from tests.contract import fixture_cases, order_factory
from tests.harness.image_model import RESOLUTIONS

EACH_OPERATION = pytest.mark.parametrize(
    ("adapter", "operation"),
    [
        pytest.param(adapter, operation, id=f"{operation}-{name}")
        for name, adapter in ADAPTERS.items()
        for operation in adapter.capabilities.operations
    ],
)


@EACH_OPERATION
@pytest.mark.parametrize("feature", list(Feature))
def test_feature_changes_call_or_is_rejected_by_name(adapter: Adapter, operation: Operation, feature: Feature) -> None:
    """Adapters never drop a parameter silently."""
    minimal = order_factory.make_minimal_order(adapter, operation)
    extended = order_factory.add_feature(minimal, feature)
    if feature in adapter.capabilities.get_features(operation):
        assert adapter.submit.build_call(extended) != adapter.submit.build_call(minimal)
    else:
        with pytest.raises(UnsupportedOrder, match=re.escape(feature)):
            adapter.submit.build_call(extended)


@EACH_OPERATION
def test_counts_beyond_capabilities_are_rejected(adapter: Adapter, operation: Operation) -> None:
    minimal = order_factory.make_minimal_order(adapter, operation)
    for images in (0, -1, adapter.capabilities.max_images + 1):
        with pytest.raises(UnsupportedOrder):
            adapter.submit.build_call(structs.replace(minimal, image_count=images))
    image, max_inputs = order_factory.make_input_image(adapter, Operation.EDIT), adapter.capabilities.max_input_images
    for sources in ((), (image,) * (max_inputs + 1)) if operation is Operation.EDIT else ((image,),):
        with pytest.raises(UnsupportedOrder):
            adapter.submit.build_call(structs.replace(minimal, input_images=sources))


@fixture_cases.EACH_ADAPTER
def test_unsupported_operation_is_rejected(adapter: Adapter) -> None:
    for operation in set(Operation) - set(adapter.capabilities.operations):
        supported = order_factory.make_minimal_order(adapter, adapter.capabilities.operations[0])
        sources = (order_factory.make_input_image(adapter, operation),) if operation is Operation.EDIT else ()
        with pytest.raises(UnsupportedOrder):
            adapter.submit.build_call(structs.replace(supported, operation=operation, input_images=sources))


def test_suite_works_for_adapter_with_one_operation() -> None:
    """No existing adapter has one operation only, so the suite must be checked with a made-up one."""
    capabilities = structs.replace(ADAPTERS["openai"].capabilities, edit_features=frozenset(), max_input_images=0)
    adapter = structs.replace(ADAPTERS["openai"], capabilities=capabilities, input_transports=())
    assert adapter.capabilities.operations == (Operation.GENERATE,)
    test_counts_beyond_capabilities_are_rejected(adapter, Operation.GENERATE)
    test_secret_is_sent_in_headers_only(adapter)
    test_input_transports_match_edit_features(adapter)


@EACH_OPERATION
def test_call_contains_every_field_of_order(adapter: Adapter, operation: Operation) -> None:
    order = order_factory.make_full_order(adapter, operation)
    sent_text = format_call(adapter.submit.build_call(order))
    assert order.prompt in sent_text
    assert order.model in sent_text or order.model.replace("-", "_") in sent_text
    for value in (order.quality, order.output_format, order.background, order.callback_url):
        assert value is None or value in sent_text


@EACH_OPERATION
def test_same_order_makes_same_bytes(adapter: Adapter, operation: Operation) -> None:
    """A resent order with the same key must be the same request."""
    order = order_factory.make_full_order(adapter, operation)
    assert adapter.submit.build_call(order) == adapter.submit.build_call(structs.replace(order))


@EACH_OPERATION
def test_idempotency_key_is_order_reference(adapter: Adapter, operation: Operation) -> None:
    order = order_factory.make_minimal_order(adapter, operation)
    assert adapter.submit.build_call(order).headers.get("idempotency-key") == (
        order.reference if adapter.has_idempotency_key else None
    )


@EACH_OPERATION
@pytest.mark.parametrize("prompt", ["", "ü " * 16_000, '"}\\\n\r\0', "\u202e‮🏳️‍🌈", "--boundary\r\n\r\n"])
def test_any_prompt_is_sent_unchanged(adapter: Adapter, operation: Operation, prompt: str) -> None:
    call = adapter.submit.build_call(
        structs.replace(order_factory.make_minimal_order(adapter, operation), prompt=prompt)
    )
    if isinstance(call.body, bytes):
        assert prompt in _list_strings(json.loads(call.body))
    else:
        assert prompt.encode() in [part.data for part in call.body]


@fixture_cases.EACH_ADAPTER
def test_secret_is_sent_in_headers_only(adapter: Adapter) -> None:
    headers = adapter.build_auth_headers("s3cret")
    assert any("s3cret" in value for value in headers.values())
    assert all(name == name.lower() for name in headers)
    for call in list_every_call(adapter):
        assert "authorization" not in call.headers
        assert call.is_presigned == call.location.startswith("http")
        assert call.is_presigned or call.location.startswith("/")
        assert all(name == name.lower() and value.isascii() for name, value in call.headers.items())


@fixture_cases.EACH_ADAPTER
def test_input_transports_match_edit_features(adapter: Adapter) -> None:
    """Bytes are sent with the order if the adapter supports it; else they become URLs."""
    features = adapter.capabilities.edit_features
    accepts_bytes = any(isinstance(route, Multipart) for route in adapter.input_transports)
    accepts_urls = any(isinstance(route, DataUri | Upload) for route in adapter.input_transports)
    assert accepts_bytes == (Feature.INPUT_BYTES in features)
    assert accepts_urls == (Feature.INPUT_URLS in features)


@fixture_cases.EACH_ADAPTER
def test_adapters_are_registered_under_their_names(adapter: Adapter) -> None:
    assert ADAPTERS[adapter.name] is adapter
    assert adapter.docs_url.startswith("https://")
    assert re.fullmatch(r"[a-z][a-z_]*", adapter.name)


def list_every_call(adapter: Adapter) -> list[Call]:
    """Returns one call of every kind that the adapter makes."""
    calls = [
        adapter.submit.build_call(order_factory.make_full_order(adapter, operation))
        for operation in adapter.capabilities.operations
    ]
    if adapter.poll:
        calls.append(
            adapter.poll.build_call(
                Ticket("0190-ab", adapter.capabilities.operations[-1], fixture_cases.get_model(adapter))
            )
        )
    if adapter.search:
        calls += [adapter.search.build_call(OrderReference("igw-0f-7k2m-0-1", search_count)) for search_count in (0, 1)]
    for route in adapter.input_transports:
        if isinstance(route, Upload):
            grant = UploadGrant("upload-1", "https://storage.example.net/put?sig=1", {"content-type": "image/png"})
            calls += [
                route.prepare.build_call(order_factory.INLINE_IMAGE),
                route.put.build_call(UploadRequest(order_factory.INLINE_IMAGE, grant)),
                route.confirm.build_call(grant),
            ]
    return calls


def format_call(call: Call) -> str:
    body = (
        call.body
        if isinstance(call.body, bytes)
        else msgspec.json.encode([part.data.decode("latin-1") for part in call.body])
    )
    return call.location + body.decode()


def _list_strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _list_strings(item)]
    return [value] if isinstance(value, str) else []


def test_runflow_search_alternates_filter_spelling() -> None:
    """The pages show one spelling, real clients send the other; a repeated search tries the other one."""
    search = ADAPTERS["runflow_runs"].search
    assert search is not None
    locations = [search.build_call(OrderReference("igw-1", number)).location for number in range(3)]
    assert locations[0] == "/v1/runs?q=client_ref.EQ%3A%27igw-1%27&limit=10"
    assert locations[1] == "/v1/runs?q=client_ref%3Aigw-1&limit=10"
    assert locations[2] == locations[0]


def test_reference_cannot_inject_search_filter() -> None:
    search = ADAPTERS["runflow_runs"].search
    assert search is not None
    for hostile in ("", "a' OR status_code:'failed", "a&limit=500", "a b", "ä"):
        with pytest.raises(UnsupportedOrder):
            search.build_call(OrderReference(hostile))


def test_runapi_rejects_unsupported_ratio_or_resolution() -> None:
    from providers.image_sizes import RATIOS
    from providers.orders import RatioSize

    adapter = ADAPTERS["runapi"]
    minimal = order_factory.make_minimal_order(adapter, Operation.GENERATE)

    def build_call(ratio: str, resolution: str) -> Call:
        return adapter.submit.build_call(structs.replace(minimal, size=RatioSize(ratio, resolution)))

    for ratio in RATIOS:
        for resolution in RESOLUTIONS:
            if (ratio, resolution) == ("1:1", "4k"):
                with pytest.raises(UnsupportedOrder):
                    build_call(ratio, resolution)
            else:
                body = json.loads(build_call(ratio, resolution).body)
                assert (body["aspect_ratio"], body["output_resolution"]) == (ratio, resolution)
    for ratio in ("auto", "7:5", "", "16/9"):
        with pytest.raises(UnsupportedOrder):
            build_call(ratio, "2k")


DOCUMENTED_CALLS: list[tuple[str, Operation, str, dict[str, Any]]] = [
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
            "image_urls": [order_factory.IMAGE_URL.url, order_factory.IMAGE_URL.url],
            "mask_url": order_factory.IMAGE_URL.url,
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
            "source_image_urls": [order_factory.IMAGE_URL.url, order_factory.IMAGE_URL.url],
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
            "background": "transparent",
        },
    ),
]


@pytest.mark.parametrize(("name", "operation", "path", "body"), DOCUMENTED_CALLS)
def test_call_matches_sellers_documentation(name: str, operation: Operation, path: str, body: dict[str, Any]) -> None:
    call = ADAPTERS[name].submit.build_call(order_factory.make_full_order(ADAPTERS[name], operation))
    assert (call.method, call.location) == ("POST", path)
    assert json.loads(call.body) == body  # type: ignore[arg-type]


def test_openai_edit_is_multipart_with_images_in_order() -> None:
    adapter = ADAPTERS["openai"]
    order: Order = order_factory.make_full_order(adapter, Operation.EDIT)
    call = adapter.submit.build_call(order)
    parts = [(part.field, part.filename) for part in call.body]  # type: ignore[union-attr]
    assert parts[-3:] == [("image[]", "in.png"), ("image[]", "in.png"), ("mask", "in.png")]
    single_image_call = adapter.submit.build_call(
        structs.replace(order, input_images=(order_factory.INLINE_IMAGE,), mask=None)
    )
    assert [part.field for part in single_image_call.body][-1] == "image"  # type: ignore[union-attr]


def test_runapi_models_of_one_family_share_one_service() -> None:
    adapter = ADAPTERS["runapi"]
    order = structs.replace(order_factory.make_minimal_order(adapter, Operation.GENERATE), model="gpt-image-2.5-flare")
    assert adapter.submit.build_call(order).location == "/api/v1/gpt_image_2_5/text_to_image"
    assert adapter.poll is not None
    poll_call = adapter.poll.build_call(Ticket("t-1", Operation.EDIT, "gpt-image-2.5-flare"))
    assert poll_call.location == "/api/v1/gpt_image_2_5/edit_image/t-1"
