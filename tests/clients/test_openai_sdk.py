"""OpenAI's Python SDK orders images from the simulated OpenAI: the images and their charges."""

import time

import openai
import pytest

from tests.clients.openai_sdk import MODEL, compute_cost_micros, make_openai_client, sum_openai_charges
from tests.harness.sample_images import decode_image, make_image


@pytest.mark.parametrize(("quality", "tokens"), [("low", 195), ("medium", 1756), ("high", 7024), ("auto", 7024)])
def test_every_quality_is_charged_by_its_tokens(sandbox, openai_client, quality, tokens):
    answer = openai_client.images.generate(model=MODEL, prompt="a lighthouse", quality=quality)
    assert answer.quality == ("high" if quality == "auto" else quality)
    assert answer.usage.output_tokens == tokens
    assert sum_openai_charges(sandbox) == compute_cost_micros(answer.usage) == 3 * 5 + tokens * 30


@pytest.mark.parametrize("size", ["1024x1024", "1024x1536", "3840x2160", "2160x3840", "1440x480"])
def test_images_have_exactly_the_requested_size(sandbox, openai_client, size):
    answer = openai_client.images.generate(model=MODEL, prompt="a lighthouse", size=size, quality="low")
    assert answer.size == size
    assert "{}x{}".format(*decode_image(answer.data[0].b64_json).size) == size
    assert sum_openai_charges(sandbox) == compute_cost_micros(answer.usage)


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_images_have_the_requested_output_format(openai_client, kind):
    answer = openai_client.images.generate(model=MODEL, prompt="a lighthouse", output_format=kind)
    assert answer.output_format == kind
    assert decode_image(answer.data[0].b64_json).format == kind.upper()


def test_several_images_differ_and_are_charged_each(sandbox, openai_client):
    answer = openai_client.images.generate(model=MODEL, prompt="a lighthouse", n=3, quality="low")
    assert len({image.b64_json for image in answer.data}) == 3
    assert answer.usage.output_tokens == 3 * 195
    assert [line["images"] for line in sandbox.list_charges("openai")] == [3]
    assert sum_openai_charges(sandbox) == compute_cost_micros(answer.usage)


def test_auto_parameters_are_reported_with_their_effective_values(openai_client):
    answer = openai_client.images.generate(model=MODEL, prompt="a lighthouse", size="auto", background="auto")
    assert (answer.size, answer.quality, answer.background) == ("1024x1024", "high", "opaque")
    assert answer.output_format == "png"
    assert abs(answer.created - time.time()) < 5


def test_base_url_works_without_v1(sandbox):
    with make_openai_client(sandbox, "/openai") as client:
        assert len(client.images.generate(model=MODEL, prompt="a lighthouse").data) == 1
        assert client.models.retrieve(MODEL).id == MODEL


def test_null_fields_are_treated_as_omitted(openai_client):
    names = (
        "n size quality background output_format output_compression moderation stream partial_images "
        "response_format style safety_identifier frame_count"
    )
    assert openai_client.images.generate(model=MODEL, prompt="a lighthouse", **dict.fromkeys(names.split())).data


def test_transparent_background_has_transparent_pixels(openai_client):
    answer = openai_client.images.generate(
        model=MODEL, prompt="a lighthouse", background="transparent", output_format="webp"
    )
    assert answer.background == "transparent"
    assert decode_image(answer.data[0].b64_json).convert("RGBA").getpixel((0, 0))[3] == 0


def test_output_compression_makes_smaller_files(openai_client):
    sizes = [
        len(
            openai_client.images.generate(model=MODEL, prompt="a", output_format="jpeg", output_compression=level)
            .data[0]
            .b64_json
        )
        for level in (5, 95)
    ]
    assert sizes[0] < sizes[1]


def test_safety_identifier_is_echoed_and_defaults_to_user(openai_client):
    assert (
        openai_client.images.generate(model=MODEL, prompt="a", safety_identifier="s", user="u").safety_identifier == "s"
    )
    assert openai_client.images.generate(model=MODEL, prompt="a", user="u").safety_identifier == "u"
    assert openai_client.images.generate(model=MODEL, prompt="a").safety_identifier is None


@pytest.mark.parametrize(
    ("model", "prices"), [("gpt-image-1.5", (5, 8, 32)), ("gpt-image-1-mini", (2, 2.5, 8)), (MODEL, (5, 8, 30))]
)
def test_each_model_is_charged_at_its_own_prices(sandbox, openai_client, model, prices):
    answer = openai_client.images.edit(model=model, prompt="night", image=make_image(900, 300), n=2)
    assert answer.usage.input_tokens_details.image_tokens > 0
    assert sum_openai_charges(sandbox) == compute_cost_micros(answer.usage, *prices)


def test_invoice_line_has_the_request_id(sandbox, openai_client):
    raw = openai_client.images.with_raw_response.generate(model=MODEL, prompt="a lighthouse")
    assert [line["id"] for line in sandbox.list_charges("openai")] == [raw.headers["x-request-id"]]
    assert raw.headers["openai-processing-ms"].isdigit()
    assert raw.parse()._request_id == raw.headers["x-request-id"]


def test_sandbox_switch_delivers_urls_instead_of_base64(sandbox, openai_client):
    with sandbox.override_switches("openai", image_format="url"):
        image = openai_client.images.generate(model=MODEL, prompt="a lighthouse", output_format="webp").data[0]
    assert image.b64_json is None
    assert sandbox.http.get(image.url).content[8:12] == b"WEBP"


def test_sandbox_switch_omits_usage(sandbox, openai_client):
    with sandbox.override_switches("openai", usage=False):
        assert openai_client.images.generate(model=MODEL, prompt="a lighthouse").usage is None
    assert sum_openai_charges(sandbox) > 0


def test_models_are_listed_and_retrieved(openai_client):
    listed = {model.id for model in openai_client.models.list()}
    models = {"gpt-image-2", "gpt-image-2-2026-04-21", "gpt-image-1.5", "gpt-image-1-mini"}
    assert listed == models | {"sandbox-image-1"}
    assert openai_client.models.retrieve("gpt-image-1.5").object == "model"


@pytest.mark.parametrize("name", ["dall-e-3", "fal-ai/flux/dev"])
def test_unknown_model_is_not_found(openai_client, name):
    with pytest.raises(openai.NotFoundError) as raised:
        openai_client.models.retrieve(name)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError) as raised:
        openai_client.images.generate(model=name, prompt="a lighthouse")
    assert raised.value.code == "model_not_found"
