"""OpenAI's Python SDK buys pictures from the simulated OpenAI: what arrives, and what it costs."""

import time

import openai
import pytest

from tests.clients.openai_python import MODEL, bill, invoiced, sdk
from tests.clients.pictures import drawn, opened


@pytest.mark.parametrize(("quality", "tokens"), [("low", 195), ("medium", 1756), ("high", 7024), ("auto", 7024)])
def test_every_quality_is_billed_by_its_tokens(sandbox, client, quality, tokens):
    answer = client.images.generate(model=MODEL, prompt="a lighthouse", quality=quality)
    assert answer.quality == ("high" if quality == "auto" else quality)
    assert answer.usage.output_tokens == tokens
    assert invoiced(sandbox) == bill(answer.usage) == 3 * 5 + tokens * 30


@pytest.mark.parametrize("size", ["1024x1024", "1024x1536", "3840x2160", "2160x3840", "1440x480"])
def test_pictures_have_exactly_the_size_that_was_asked_for(sandbox, client, size):
    answer = client.images.generate(model=MODEL, prompt="a lighthouse", size=size, quality="low")
    assert answer.size == size
    assert "{}x{}".format(*opened(answer.data[0].b64_json).size) == size
    assert invoiced(sandbox) == bill(answer.usage)


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_pictures_have_the_format_that_was_asked_for(client, kind):
    answer = client.images.generate(model=MODEL, prompt="a lighthouse", output_format=kind)
    assert answer.output_format == kind
    assert opened(answer.data[0].b64_json).format == kind.upper()


def test_several_pictures_are_different_and_cost_so_many_times_the_output(sandbox, client):
    answer = client.images.generate(model=MODEL, prompt="a lighthouse", n=3, quality="low")
    assert len({image.b64_json for image in answer.data}) == 3
    assert answer.usage.output_tokens == 3 * 195
    assert [line["images"] for line in sandbox.charges("openai")] == [3]
    assert invoiced(sandbox) == bill(answer.usage)


def test_everything_left_to_the_model_is_reported_as_what_it_became(client):
    answer = client.images.generate(model=MODEL, prompt="a lighthouse", size="auto", background="auto")
    assert (answer.size, answer.quality, answer.background) == ("1024x1024", "high", "opaque")
    assert answer.output_format == "png"
    assert abs(answer.created - time.time()) < 5


def test_the_base_url_works_without_v1_too(sandbox):
    with sdk(sandbox, "/openai") as client:
        assert len(client.images.generate(model=MODEL, prompt="a lighthouse").data) == 1
        assert client.models.retrieve(MODEL).id == MODEL


def test_nulls_are_as_good_as_leaving_out(client):
    names = (
        "n size quality background output_format output_compression moderation stream partial_images "
        "response_format style safety_identifier frame_count"
    )
    assert client.images.generate(model=MODEL, prompt="a lighthouse", **dict.fromkeys(names.split())).data


def test_a_transparent_background_is_really_transparent(client):
    answer = client.images.generate(model=MODEL, prompt="a lighthouse", background="transparent", output_format="webp")
    assert answer.background == "transparent"
    assert opened(answer.data[0].b64_json).convert("RGBA").getpixel((0, 0))[3] == 0


def test_compression_makes_smaller_files(client):
    sizes = [
        len(
            client.images.generate(model=MODEL, prompt="a", output_format="jpeg", output_compression=level)
            .data[0]
            .b64_json
        )
        for level in (5, 95)
    ]
    assert sizes[0] < sizes[1]


def test_the_safety_identifier_is_echoed_and_user_stands_in_for_it(client):
    assert client.images.generate(model=MODEL, prompt="a", safety_identifier="s", user="u").safety_identifier == "s"
    assert client.images.generate(model=MODEL, prompt="a", user="u").safety_identifier == "u"
    assert client.images.generate(model=MODEL, prompt="a").safety_identifier is None


@pytest.mark.parametrize(
    ("model", "prices"), [("gpt-image-1.5", (5, 8, 32)), ("gpt-image-1-mini", (2, 2.5, 8)), (MODEL, (5, 8, 30))]
)
def test_each_model_is_billed_at_its_own_prices(sandbox, client, model, prices):
    answer = client.images.edit(model=model, prompt="night", image=drawn(900, 300), n=2)
    assert answer.usage.input_tokens_details.image_tokens > 0
    assert invoiced(sandbox) == bill(answer.usage, *prices)


def test_the_invoice_line_has_the_id_of_the_request(sandbox, client):
    raw = client.images.with_raw_response.generate(model=MODEL, prompt="a lighthouse")
    assert [line["id"] for line in sandbox.charges("openai")] == [raw.headers["x-request-id"]]
    assert raw.headers["openai-processing-ms"].isdigit()
    assert raw.parse()._request_id == raw.headers["x-request-id"]


def test_urls_are_delivered_where_the_sandbox_is_told_so(sandbox, client):
    with sandbox.switched("openai", delivers="url"):
        image = client.images.generate(model=MODEL, prompt="a lighthouse", output_format="webp").data[0]
    assert image.b64_json is None
    assert sandbox.http.get(image.url).content[8:12] == b"WEBP"


def test_an_answer_may_come_without_usage(sandbox, client):
    with sandbox.switched("openai", usage=False):
        assert client.images.generate(model=MODEL, prompt="a lighthouse").usage is None
    assert invoiced(sandbox) > 0


def test_the_models_are_listed_and_found(client):
    listed = {model.id for model in client.models.list()}
    assert listed == {"gpt-image-2", "gpt-image-2-2026-04-21", "gpt-image-1.5", "gpt-image-1-mini"}
    assert client.models.retrieve("gpt-image-1.5").object == "model"


@pytest.mark.parametrize("name", ["dall-e-3", "fal-ai/flux/dev"])
def test_an_unknown_model_is_not_found(client, name):
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve(name)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError) as raised:
        client.images.generate(model=name, prompt="a lighthouse")
    assert raised.value.code == "model_not_found"
