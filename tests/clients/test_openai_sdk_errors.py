"""What OpenAI's Python SDK raises when the simulated OpenAI refuses or misbehaves."""

import time

import httpx2
import openai
import pytest

from tests.clients.openai_python import MODEL, bill, invoiced, sdk
from tests.clients.pictures import drawn, opened


@pytest.mark.parametrize(
    ("wrong", "code", "param"),
    [
        ({"prompt": ""}, "missing_required_parameter", "prompt"),
        ({"prompt": "x" * 32_001}, "string_above_max_length", "prompt"),
        ({"prompt": 7}, "invalid_type", "prompt"),
        ({"n": 0}, "integer_below_min_value", "n"),
        ({"n": 11}, "integer_above_max_value", "n"),
        ({"n": "2"}, "invalid_type", "n"),
        ({"n": True}, "invalid_type", "n"),
        ({"n": 1.5}, "invalid_type", "n"),
        ({"size": "big"}, "invalid_value", "size"),
        ({"size": "1000x1000"}, "invalid_value", "size"),
        ({"size": "1024x1000"}, "invalid_value", "size"),
        ({"size": "4096x2016"}, "invalid_value", "size"),
        ({"size": "3840x1264"}, "invalid_value", "size"),
        ({"size": "800x800"}, "invalid_value", "size"),
        ({"size": "2896x2880"}, "invalid_value", "size"),
        ({"size": "２048x2048"}, "invalid_value", "size"),
        ({"size": "1536x864", "model": "gpt-image-1.5"}, "invalid_value", "size"),
        ({"quality": "hd"}, "invalid_value", "quality"),
        ({"output_format": "gif"}, "invalid_value", "output_format"),
        ({"output_compression": 50}, "invalid_value", "output_compression"),
        ({"output_compression": 101, "output_format": "webp"}, "integer_above_max_value", "output_compression"),
        ({"background": "transparent", "output_format": "jpeg"}, "invalid_value", "background"),
        ({"partial_images": 4, "stream": True}, "integer_above_max_value", "partial_images"),
        ({"partial_images": 1}, "invalid_value", "partial_images"),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"response_format": "b64_json"}, "unknown_parameter", "response_format"),
        ({"style": "vivid"}, "unknown_parameter", "style"),
        ({"frame_count": 3}, "unsupported_parameter", "frame_count"),
        ({"input_fidelity": "high"}, "unknown_parameter", "input_fidelity"),
        ({"seed": None}, "unknown_parameter", "seed"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(sandbox, client, wrong, code, param):
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.generate(**{"model": MODEL, "prompt": "a lighthouse", "extra_body": wrong})
    error = raised.value
    assert (error.type, error.code, error.param) == ("invalid_request_error", code, param)
    assert error.request_id
    assert sandbox.charges() == []


@pytest.mark.parametrize("size", ["3840x1280", "1440x480", "3840x2160", "640x1024"])
def test_sizes_on_the_edge_of_the_law_are_taken(client, size):
    assert client.images.generate(model=MODEL, prompt="a", size=size, quality="low").size == size


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
def test_a_wrong_form_field_is_refused_by_name(client, field, value, code):
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.edit(model=MODEL, prompt="night", image=drawn(64, 64), extra_body={field: value})
    assert (raised.value.code, raised.value.param) == (code, field.partition("[")[0])


@pytest.mark.parametrize(
    ("model", "fidelity", "taken"),
    [("gpt-image-1.5", "high", True), ("gpt-image-1-mini", "low", True), ("gpt-image-1-mini", "high", False)],
)
def test_input_fidelity_is_taken_where_the_model_has_it(client, model, fidelity, taken):
    if taken:
        assert client.images.edit(model=model, prompt="x", image=drawn(64, 64), input_fidelity=fidelity).data
    else:
        with pytest.raises(openai.BadRequestError):
            client.images.edit(model=model, prompt="x", image=drawn(64, 64), input_fidelity=fidelity)


def test_a_wrong_key_is_refused(sandbox):
    with sdk(sandbox, api_key="sk-other") as client, pytest.raises(openai.AuthenticationError) as raised:
        client.models.list()
    assert raised.value.code == "invalid_api_key"


def test_no_credit_is_a_rate_limit_error_with_its_own_code(sandbox, client):
    sandbox.balance("openai", "0.01")
    with pytest.raises(openai.RateLimitError) as raised:
        client.images.generate(model=MODEL, prompt="a lighthouse")
    assert (raised.value.code, raised.value.type) == ("insufficient_quota", "insufficient_quota")
    assert client.images.generate(model=MODEL, prompt="a lighthouse", quality="low").data


def test_a_failed_order_is_a_server_error_and_free(sandbox, client):
    sandbox.fault("fail", vendor="openai", times=1)
    with pytest.raises(openai.InternalServerError) as raised:
        client.images.generate(model=MODEL, prompt="a lighthouse")
    assert (raised.value.status_code, raised.value.code) == (500, "server_error")
    assert sandbox.charges() == []


def test_refused_content_is_a_callers_mistake_and_free(sandbox, client):
    sandbox.fault("refuse_content", vendor="openai", times=1)
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.generate(model=MODEL, prompt="a lighthouse")
    assert (raised.value.code, raised.value.type) == ("moderation_blocked", "image_generation_user_error")
    assert sandbox.charges() == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 503])
def test_staged_refusals_have_openais_envelope(sandbox, client, status):
    sandbox.fault("status", vendor="openai", status=status)
    with pytest.raises(openai.APIStatusError) as raised:
        client.images.generate(model=MODEL, prompt="a lighthouse")
    assert raised.value.status_code == status
    assert set(raised.value.body) == {"message", "type", "param", "code"}
    assert raised.value.request_id


@pytest.mark.parametrize(("method", "path"), [("POST", "/images/variations"), ("GET", "/images/generations")])
def test_unknown_routes_answer_in_openais_envelope(client, method, path):
    with pytest.raises(openai.APIStatusError) as raised:
        client.request(object, openai._models.FinalRequestOptions(method=method, url=path))
    assert raised.value.status_code in (404, 405)
    assert raised.value.type == "invalid_request_error"
    assert raised.value.request_id


def test_pictures_that_were_not_made_are_not_charged(sandbox, client):
    sandbox.fault("partial", vendor="openai", missing=2)
    answer = client.images.edit(model=MODEL, prompt="night", image=drawn(900, 300), n=3)
    assert len(answer.data) == 1
    assert answer.usage.output_tokens == 5488
    assert invoiced(sandbox) == bill(answer.usage)


def test_an_empty_success_is_charged(sandbox, client):
    sandbox.fault("empty_outputs", vendor="openai")
    answer = client.images.generate(model=MODEL, prompt="a lighthouse")
    assert answer.data == []
    assert invoiced(sandbox) == bill(answer.usage) > 0


def test_a_downgraded_picture_claims_the_size_that_was_sold(sandbox, client):
    sandbox.fault("downgrade", vendor="openai")
    answer = client.images.generate(model=MODEL, prompt="a lighthouse", size="2048x1024", background="transparent")
    assert answer.size == "2048x1024"
    assert opened(answer.data[0].b64_json).size == (1024, 512)
    assert opened(answer.data[0].b64_json).mode == "RGBA"
    assert invoiced(sandbox) == bill(answer.usage)


def test_expired_links_are_dead(sandbox, client):
    sandbox.fault("expired_url", vendor="openai")
    with sandbox.switched("openai", delivers="url"):
        url = client.images.generate(model=MODEL, prompt="a lighthouse").data[0].url
    assert sandbox.http.get(url).status_code == 403


@pytest.mark.parametrize("stream", [False, True])
def test_a_stuck_order_outlasts_the_clients_patience(sandbox, client, stream):
    sandbox.fault("stuck", vendor="openai")
    with pytest.raises((openai.APITimeoutError, httpx2.ReadTimeout)):
        list(client.images.generate(model=MODEL, prompt="a lighthouse", stream=stream, timeout=0.2))
    assert sandbox.charges() == []


def test_a_client_that_leaves_is_charged_all_the_same(sandbox, client):
    sandbox.latency(0.4, vendor="openai")
    with pytest.raises(openai.APITimeoutError):
        client.images.generate(model=MODEL, prompt="a lighthouse", timeout=0.1)
    assert sandbox.charges() == []
    deadline = time.monotonic() + 5
    while not sandbox.charges("openai") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(sandbox.charges("openai")) == 1


def test_trap_the_sdks_own_retry_buys_twice(sandbox):
    """A 500 after the charge: the SDK tries again by default, sends no idempotency key, and so pays for both."""
    sandbox.fault("status", vendor="openai", status=500, accepted=True, times=1)
    with sdk(sandbox, max_retries=2) as client:
        assert len(client.images.generate(model=MODEL, prompt="a lighthouse").data) == 1
    assert len(sandbox.charges("openai")) == 2
    retries = [entry["headers"] for entry in sandbox.requests("openai", "submit")]
    assert [headers["x-stainless-retry-count"] for headers in retries] == ["0", "1"]
    assert not any("idempotency-key" in headers for headers in retries)


def test_should_retry_false_keeps_the_sdk_from_buying_again(sandbox):
    sandbox.fault("status", vendor="openai", accepted=True, headers={"x-should-retry": "false"})
    with sdk(sandbox, max_retries=2) as client, pytest.raises(openai.InternalServerError):
        client.images.generate(model=MODEL, prompt="a lighthouse")
    assert len(sandbox.charges("openai")) == 1
