"""Exceptions of OpenAI's Python SDK when the simulated OpenAI rejects requests or fails."""

import httpx2
import openai
import pytest

from tests.clients.openai_sdk import MODEL, compute_cost_micros, make_openai_client, sum_openai_charges
from tests.harness.sample_images import decode_image, make_image
from tests.harness.wait import wait_until


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"prompt": ""}, "missing_required_parameter"),
        ({"prompt": "x" * 32_001}, "string_above_max_length"),
        ({"prompt": 7}, "invalid_type"),
        ({"n": 0}, "integer_below_min_value"),
        ({"n": 11}, "integer_above_max_value"),
        ({"n": "2"}, "invalid_type"),
        ({"n": True}, "invalid_type"),
        ({"n": 1.5}, "invalid_type"),
        ({"size": "big"}, "invalid_value"),
        ({"size": "1000x1000"}, "invalid_value"),
        ({"size": "1024x1000"}, "invalid_value"),
        ({"size": "4096x2016"}, "invalid_value"),
        ({"size": "3840x1264"}, "invalid_value"),
        ({"size": "800x800"}, "invalid_value"),
        ({"size": "2896x2880"}, "invalid_value"),
        ({"size": "２048x2048"}, "invalid_value"),
        ({"size": "1536x864", "model": "gpt-image-1.5"}, "invalid_value"),
        ({"quality": "hd"}, "invalid_value"),
        ({"output_format": "gif"}, "invalid_value"),
        ({"output_compression": 50}, "invalid_value"),
        ({"output_compression": 101, "output_format": "webp"}, "integer_above_max_value"),
        ({"background": "transparent", "output_format": "jpeg"}, "invalid_value"),
        ({"partial_images": 4, "stream": True}, "integer_above_max_value"),
        ({"partial_images": 1}, "invalid_value"),
        ({"stream": "yes"}, "invalid_type"),
        ({"response_format": "b64_json"}, "unknown_parameter"),
        ({"style": "vivid"}, "unknown_parameter"),
        ({"frame_count": 3}, "unsupported_parameter"),
        ({"input_fidelity": "high"}, "unknown_parameter"),
        ({"seed": None}, "unknown_parameter"),
    ],
)
def test_invalid_parameter_error_names_the_parameter(sandbox, openai_client, wrong, code):
    """The first parameter of each case is the invalid one."""
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client.images.generate(**{"model": MODEL, "prompt": "a lighthouse", "extra_body": wrong})
    error = raised.value
    assert (error.type, error.code, error.param) == ("invalid_request_error", code, next(iter(wrong)))
    assert error.request_id
    assert sandbox.list_charges() == []


@pytest.mark.parametrize("size", ["3840x1280", "1440x480", "3840x2160", "640x1024"])
def test_sizes_at_the_limits_are_accepted(openai_client, size):
    assert openai_client.images.generate(model=MODEL, prompt="a", size=size, quality="low").size == size


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("n", "two", "invalid_type"),
        ("stream", "perhaps", "invalid_type"),
        ("svg[model]", "x", "unsupported_parameter"),
        ("provider[only][]", "x", "unknown_parameter"),
        ("moderation", "low", "unknown_parameter"),
        ("input_fidelity", "high", "unsupported_parameter"),
    ],
)
def test_invalid_form_field_error_names_the_field(openai_client, field, value, code):
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client.images.edit(model=MODEL, prompt="night", image=make_image(64, 64), extra_body={field: value})
    assert (raised.value.code, raised.value.param) == (code, field.partition("[")[0])


@pytest.mark.parametrize(
    ("model", "fidelity", "is_accepted"),
    [("gpt-image-1.5", "high", True), ("gpt-image-1-mini", "low", True), ("gpt-image-1-mini", "high", False)],
)
def test_input_fidelity_is_accepted_by_models_that_support_it(openai_client, model, fidelity, is_accepted):
    if is_accepted:
        assert openai_client.images.edit(
            model=model, prompt="x", image=make_image(64, 64), input_fidelity=fidelity
        ).data
    else:
        with pytest.raises(openai.BadRequestError):
            openai_client.images.edit(model=model, prompt="x", image=make_image(64, 64), input_fidelity=fidelity)


def test_invalid_key_is_rejected(sandbox):
    with make_openai_client(sandbox, api_key="sk-other") as client, pytest.raises(openai.AuthenticationError) as raised:
        client.models.list()
    assert raised.value.code == "invalid_api_key"


def test_insufficient_credit_is_a_rate_limit_error_with_its_own_code(sandbox, openai_client):
    sandbox.set_balance("openai", "0.01")
    with pytest.raises(openai.RateLimitError) as raised:
        openai_client.images.generate(model=MODEL, prompt="a lighthouse")
    assert (raised.value.code, raised.value.type) == ("insufficient_quota", "insufficient_quota")
    assert openai_client.images.generate(model=MODEL, prompt="a lighthouse", quality="low").data


def test_failed_order_is_a_server_error_and_not_charged(sandbox, openai_client):
    sandbox.inject_fault("fail", vendor="openai", times=1)
    with pytest.raises(openai.InternalServerError) as raised:
        openai_client.images.generate(model=MODEL, prompt="a lighthouse")
    assert (raised.value.status_code, raised.value.code) == (500, "server_error")
    assert sandbox.list_charges() == []


def test_content_refusal_is_a_bad_request_and_not_charged(sandbox, openai_client):
    sandbox.inject_fault("refuse_content", vendor="openai", times=1)
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client.images.generate(model=MODEL, prompt="a lighthouse")
    assert (raised.value.code, raised.value.type) == ("moderation_blocked", "image_generation_user_error")
    assert sandbox.list_charges() == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 503])
def test_injected_errors_have_the_openai_envelope(sandbox, openai_client, status):
    sandbox.inject_fault("status", vendor="openai", status=status)
    with pytest.raises(openai.APIStatusError) as raised:
        openai_client.images.generate(model=MODEL, prompt="a lighthouse")
    assert raised.value.status_code == status
    assert set(raised.value.body) == {"message", "type", "param", "code"}
    assert raised.value.request_id


@pytest.mark.parametrize(("method", "path"), [("POST", "/images/variations"), ("GET", "/images/generations")])
def test_unknown_routes_answer_in_the_openai_envelope(openai_client, method, path):
    with pytest.raises(openai.APIStatusError) as raised:
        openai_client.request(object, openai._models.FinalRequestOptions(method=method, url=path))
    assert raised.value.status_code in (404, 405)
    assert raised.value.type == "invalid_request_error"
    assert raised.value.request_id


def test_missing_images_are_not_charged(sandbox, openai_client):
    sandbox.inject_fault("partial", vendor="openai", missing=2)
    answer = openai_client.images.edit(model=MODEL, prompt="night", image=make_image(900, 300), n=3)
    assert len(answer.data) == 1
    assert answer.usage.output_tokens == 5488
    assert sum_openai_charges(sandbox) == compute_cost_micros(answer.usage)


def test_empty_success_is_charged(sandbox, openai_client):
    sandbox.inject_fault("empty_outputs", vendor="openai")
    answer = openai_client.images.generate(model=MODEL, prompt="a lighthouse")
    assert answer.data == []
    assert sum_openai_charges(sandbox) == compute_cost_micros(answer.usage) > 0


def test_downgraded_image_reports_the_ordered_size(sandbox, openai_client):
    sandbox.inject_fault("half_size", vendor="openai")
    answer = openai_client.images.generate(
        model=MODEL, prompt="a lighthouse", size="2048x1024", background="transparent"
    )
    assert answer.size == "2048x1024"
    assert decode_image(answer.data[0].b64_json).size == (1024, 512)
    assert decode_image(answer.data[0].b64_json).mode == "RGBA"
    assert sum_openai_charges(sandbox) == compute_cost_micros(answer.usage)


def test_expired_urls_are_rejected(sandbox, openai_client):
    sandbox.inject_fault("expired_url", vendor="openai")
    with sandbox.override_switches("openai", image_format="url"):
        url = openai_client.images.generate(model=MODEL, prompt="a lighthouse").data[0].url
    assert sandbox.http.get(url).status_code == 403


@pytest.mark.parametrize("stream", [False, True])
def test_stuck_order_runs_into_the_client_timeout(sandbox, openai_client, stream):
    sandbox.inject_fault("stuck", vendor="openai")
    with pytest.raises((openai.APITimeoutError, httpx2.ReadTimeout)):
        list(openai_client.images.generate(model=MODEL, prompt="a lighthouse", stream=stream, timeout=0.2))
    assert sandbox.list_charges() == []


def test_client_that_times_out_is_still_charged(sandbox, openai_client):
    sandbox.hold_orders(vendor="openai")
    with pytest.raises(openai.APITimeoutError):
        openai_client.images.generate(model=MODEL, prompt="a lighthouse", timeout=0.1)
    assert sandbox.list_charges() == []
    sandbox.release_orders()
    wait_until(lambda: sandbox.list_charges("openai"), "the order is charged")
    assert len(sandbox.list_charges("openai")) == 1


def test_sdk_retry_after_a_500_is_charged_twice(sandbox):
    """A 500 after the charge: the SDK retries by default without an idempotency key, so both orders are charged."""
    sandbox.inject_fault("status", vendor="openai", status=500, accepted=True, times=1)
    with make_openai_client(sandbox, max_retries=2) as client:
        assert len(client.images.generate(model=MODEL, prompt="a lighthouse").data) == 1
    assert len(sandbox.list_charges("openai")) == 2
    retries = [entry["headers"] for entry in sandbox.list_requests("openai", "submit")]
    assert [headers["x-stainless-retry-count"] for headers in retries] == ["0", "1"]
    assert not any("idempotency-key" in headers for headers in retries)


def test_should_retry_false_stops_the_sdk_from_retrying(sandbox):
    sandbox.inject_fault("status", vendor="openai", accepted=True, headers={"x-should-retry": "false"})
    with make_openai_client(sandbox, max_retries=2) as client, pytest.raises(openai.InternalServerError):
        client.images.generate(model=MODEL, prompt="a lighthouse")
    assert len(sandbox.list_charges("openai")) == 1
