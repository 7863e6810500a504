"""A made-up model of other qualities, tiers, sizes, formats and limits works end to end: it is only configuration."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, expect_final_error
from tests.harness.gateway_runner import RunningGateway, run_sandboxed_gateway
from tests.harness.sample_images import decode_image, encode_data_uri, make_image
from tests.harness.wait import wait_for_value

MODEL = "fable"
QUALITIES = ("draft", "fine", "ultra")
MODEL_CONFIG = {
    "qualities": QUALITIES,
    "formats": ["webp", "png"],
    "backgrounds": ["opaque", "transparent"],
    "sizes": {
        "multiple_of": 8,
        "max_edge": 2048,
        "max_ratio": 2,
        "min_pixels": 65_536,
        "tiers": {"small": {"max_pixels": 262_144}, "large": {"max_pixels": 2_097_152, "usual_pixels": 1_048_576}},
    },
    "inputs": {"max_images": 1, "max_mib": 1, "mask": False},
    "defaults": {"quality": "fine"},
    "max_images": 3,
}
# Cheaper than the other seller for drafts only.
DIRECT_PRICES = {("small", "draft"): "0.003", ("small", "fine"): "0.012", ("small", "ultra"): "0.048"} | {
    ("large", "draft"): "0.006",
    ("large", "fine"): "0.024",
    ("large", "ultra"): "0.096",
}
SOURCE = {"source": "made up", "date": "2026-11-27"}
SECONDS = {"any": {"p50": 0.3, "p90": 1.0}}


def build_offer(prices: dict[tuple[str, str], str], **options: Any) -> dict[str, Any]:
    rows = [
        {"price": price, "resolutions": [tier], "qualities": [quality], **SOURCE}
        for (tier, quality), price in prices.items()
    ]
    sizes = {"generate": {"pixels": "exact"}, "edit": {"pixels": "exact"}}
    return {"images_per_order": 3, "inputs": 1, "seconds": SECONDS, "prices": rows, **sizes, **options}


def write_config(folder: Path) -> None:
    direct_offer = build_offer(
        DIRECT_PRICES,
        model="sandbox-image-1",
        quality={"selectable": QUALITIES},
        formats=["png", "webp"],
        backgrounds=["opaque", "transparent"],
    )
    # This seller sells the same under the words of GPT Image 2, and only in the larger tier.
    other_words = {"draft": "low", "fine": "medium", "ultra": "high"}
    mapped_offer = build_offer(
        {("large", "draft"): "0.02", ("large", "fine"): "0.02", ("large", "ultra"): "0.02"},
        model="openai/gpt-image-2",
        quality={"selectable": QUALITIES, "words": other_words},
        formats=["png"],
    )
    files = {
        "models.yaml": {"models": {"gpt-image-2": {}, MODEL: MODEL_CONFIG}},
        "accounts.yaml": {
            "accounts": {
                "direct": {"base_url": "https://direct.example", "key": "env:DIRECT_KEY"},
                "mapped": {"base_url": "https://mapped.example", "key": "env:MAPPED_KEY"},
            }
        },
        "offers/direct.yaml": {"account": "direct", "adapter": "openai", "offers": {MODEL: direct_offer}},
        "offers/mapped.yaml": {"account": "mapped", "adapter": "runflow_run", "offers": {MODEL: mapped_offer}},
        "policies.yaml": {
            "policies": {"cheapest": {"rank": "cost"}, "direct": {"rank": "listed", "sellers": ["direct"]}},
            "rules": [{"when": {"model": MODEL, "quality": "ultra", "resolution": "small"}, "use": "direct"}],
            "default": "cheapest",
        },
        "gateway.yaml": {"reload": {"watch": False}},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        # JSON is also YAML.
        (folder / name).write_text(json.dumps(content))


@pytest.fixture(scope="module")
def fable_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder, config = tmp_path_factory.mktemp("fable"), tmp_path_factory.mktemp("config")
    write_config(config)
    with run_sandboxed_gateway(folder, environ={"IGW_CONFIG": str(config)}) as running:
        yield running


def order_job(gateway: RunningGateway, **fields: Any) -> dict[str, Any]:
    body = {"prompt": "a fox", "model": MODEL, **fields}
    answer = gateway.http.post(JOBS_PATH, json=body, headers={"prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    assert job["status"] == "completed", job
    return job


@pytest.mark.parametrize(
    ("fields", "size", "cell", "seller"),
    [
        ({}, "512x512", ("small", "fine"), "direct"),
        ({"quality": "ultra"}, "512x512", ("small", "ultra"), "direct"),
        ({"resolution": "large", "quality": "draft"}, "1024x1024", ("large", "draft"), "direct"),
        ({"resolution": "large"}, "1024x1024", ("large", "fine"), "mapped"),
        ({"resolution": "large", "quality": "ultra"}, "1024x1024", ("large", "ultra"), "mapped"),
        ({"size": "264x520"}, "264x520", ("small", "fine"), "direct"),
        ({"size": "1920x1024", "quality": "DRAFT"}, "1920x1024", ("large", "draft"), "direct"),
    ],
)
def test_each_cell_is_ordered_at_its_price(
    fable_gateway: RunningGateway, fields: dict[str, Any], size: str, cell: tuple[str, str], seller: str
) -> None:
    tier, quality = cell
    job = order_job(fable_gateway, **fields)
    assert (job["effective"]["size"], job["effective"]["resolution"]) == (size, tier)
    assert job["effective"]["quality"] == job["images"][0]["quality"] == quality
    assert (job["plan"]["resolution"], job["plan"]["quality"]) == (tier, quality)
    assert job["effective"]["output_format"] == "webp"
    assert job["images"][0]["seller"] == job["plan"]["sellers"][0]["seller"] == seller
    expected_price = DIRECT_PRICES[cell] if seller == "direct" else "0.02"
    assert job["plan"]["sellers"][0]["quote"] == float(expected_price)
    rule = (
        "rule 1: model fable, resolution small, quality ultra" if (tier, quality) == ("small", "ultra") else "default"
    )
    assert job["plan"]["rule"] == rule


def test_metrics_and_quotes_have_the_words_of_the_model(fable_gateway: RunningGateway) -> None:
    order_job(fable_gateway, quality="ultra")
    labels = 'igw_cell_images_delivered_total{model="fable",operation="generate",quality="ultra",resolution="small"'
    metrics = wait_for_value(
        lambda: fable_gateway.http.get("/metrics").text, lambda text: labels in text, "the store is read"
    )
    health = [
        line for line in metrics.splitlines() if line.startswith("igw_cell_circuit_breaker_state{") and MODEL in line
    ]
    cells = {tuple(re.findall(r'(?:resolution|quality)="(\w+)"', line))[::-1] for line in health}
    assert cells == set(DIRECT_PRICES)
    quote = fable_gateway.http.post("/v1/quotes", json={"prompt": "a fox", "model": MODEL, "quality": "ultra"}).json()
    assert (quote["quality"], quote["resolution"]) == ("ultra", "small")


def test_transparent_background_is_ordered_and_delivered(fable_gateway: RunningGateway) -> None:
    fields = {"prompt": "a fox", "model": MODEL, "background": "transparent", "output_format": "png"}
    answer = fable_gateway.http.post(IMAGES_PATH, json=fields)
    image = decode_image(answer.json()["data"][0]["b64_json"])
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0))[3] == 0
    opaque = fable_gateway.http.post(IMAGES_PATH, json=fields | {"background": "auto"}).json()
    assert decode_image(opaque["data"][0]["b64_json"]).mode == "RGB"
    assert opaque["background"] == "opaque"
    only_mapped = {**fields, "resolution": "large", "provider": {"only": ["mapped"]}}
    error = expect_final_error(fable_gateway.http.post(IMAGES_PATH, json=only_mapped), 400, "no_offer")
    assert "background transparent cannot be ordered" in error["message"]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"quality": "high"}, "quality", "must be one of auto, draft, fine, ultra with 'fable'"),
        ({"resolution": "1k"}, "resolution", "Use one of small, large"),
        ({"output_format": "jpeg"}, "output_format", "must be one of auto, webp, png with 'fable'"),
        ({"size": "1000x1004"}, "size", "multiples of 8"),
        ({"size": "2048x1016"}, "size", "between 1:2 and 2:1"),
        ({"aspect_ratio": "21:9"}, "aspect_ratio", "outside 1:2 to 2:1"),
        ({"size": "128x128"}, "size", "at least 65,536 pixels"),
        ({"n": 4}, "n", "at most 3 images"),
        ({"model": "gpt-image-2", "quality": "fine"}, "quality", "must be one of auto, low, medium, high"),
        ({"model": "gpt-image-2", "background": "transparent"}, "background", "must be one of auto, opaque"),
    ],
)
def test_words_of_other_models_are_refused_by_name(
    fable_gateway: RunningGateway, fields: dict[str, Any], param: str, words: str
) -> None:
    answer = fable_gateway.http.post(IMAGES_PATH, json={"prompt": "a fox", "model": MODEL} | fields)
    error = expect_final_error(answer, 400, "invalid_value")
    assert error["param"] == param
    assert words in error["message"]


@pytest.mark.parametrize(
    ("fields", "size", "quality", "warnings"),
    [
        ({"size": "1792x1024", "quality": "hd"}, "1792x1024", "ultra", ["quality_mapped"]),
        ({"size": "256x256", "quality": "standard"}, "256x256", "fine", ["quality_mapped"]),
    ],
)
def test_dalle_words_become_those_of_the_model(
    fable_gateway: RunningGateway, fields: dict[str, Any], size: str, quality: str, warnings: list[str]
) -> None:
    job = order_job(fable_gateway, **fields, provider={"only": ["direct"]})
    assert (job["effective"]["size"], job["effective"]["quality"]) == (size, quality)
    assert [warning.partition(":")[0] for warning in job["warnings"]] == warnings


def test_input_limits_are_those_of_the_model(fable_gateway: RunningGateway) -> None:
    image, mask = encode_data_uri(make_image(512, 512)), encode_data_uri(make_image(512, 512, mode="RGBA"))
    assert order_job(fable_gateway, operation="edit", image=image)["effective"]["size"] == "512x512"
    for fields, param, words in (
        ({"image": [image, image]}, "image", "at most 1"),
        ({"image": image, "mask": mask}, "mask", "accepts no mask"),
    ):
        body = {"prompt": "a fox", "model": MODEL, "operation": "edit", **fields}
        error = expect_final_error(fable_gateway.http.post(JOBS_PATH, json=body), 400)
        assert error["param"] == param
        assert words in error["message"]


def test_order_has_the_words_of_its_seller(fable_gateway: RunningGateway) -> None:
    order_job(fable_gateway, resolution="large", quality="ultra", provider={"only": ["mapped"]})
    order_job(fable_gateway, resolution="large", quality="ultra", provider={"only": ["direct"]})
    paths = [entry["path"] for entry in fable_gateway.sandbox.list_requests("runflow")]
    assert "/runflow/v1/run/openai/gpt-image-2" in paths
    # High quality of GPT Image 2 at Runflow, and the tokens of `ultra` at the seller of the model itself.
    charges = {charge["vendor"]: charge["usd_micros"] for charge in fable_gateway.sandbox.list_charges()[-2:]}
    assert charges["runflow"] == 133_000
    assert charges["openai"] > 96_000
