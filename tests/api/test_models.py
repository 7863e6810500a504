"""The list of models: what each can do, what it costs, aliases, and errors in OpenAI's form."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.api.error_responses import IMAGES_PATH, expect_final_error
from tests.harness.gateway_runner import RunningGateway

MODEL = "gpt-image-2"
CELL_COUNT = 2 * 3 * 3


def get(gateway: RunningGateway, path: str, **headers: str) -> httpx.Response:
    return gateway.http.get(path, headers=headers)


@pytest.mark.parametrize(
    "path", ["/v1/models", "/models", "/openai/v1/models", "/openai/models?api-version=2025-04-01"]
)
def test_list_has_the_models_without_aliases(gateway: RunningGateway, path: str) -> None:
    body = get(gateway, path).json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == [MODEL]
    [model] = body["data"]
    assert (model["object"], model["created"], model["owned_by"]) == ("model", 0, "image-gateway")
    assert "dall-e-3" in model["aliases"]


def test_model_has_capabilities_sizes_and_defaults(gateway: RunningGateway) -> None:
    model = get(gateway, f"/v1/models/{MODEL}").json()
    assert model["capabilities"] == {
        "generate": True,
        "edit": True,
        "mask": True,
        "transparent_background": False,
        "stream": True,
        "partial_images": False,
    }
    assert model["operations"] == ["generate", "edit"]
    assert model["qualities"] == ["low", "medium", "high"]
    assert model["output_formats"] == ["png", "jpeg", "webp"]
    assert model["defaults"] == {
        "size": "1024x1024",
        "quality": "high",
        "output_format": "png",
        "background": "opaque",
    }
    assert [tier["resolution"] for tier in model["sizes"]["resolutions"]] == ["1k", "2k", "4k"]
    assert (model["sizes"]["max_edge"], model["sizes"]["multiple_of"]) == (3840, 16)
    usual = model["sizes"]["usual"]
    assert usual[0] == model["defaults"]["size"] == "1024x1024"
    assert sorted(set(usual)) == sorted(usual)
    assert model["max_images"] == 10


def test_prices_are_the_lowest_and_highest_of_each_cell(gateway: RunningGateway) -> None:
    prices = get(gateway, f"/v1/models/{MODEL}").json()["prices"]
    cells = {(entry["operation"], entry["resolution"], entry["quality"]): entry for entry in prices}
    assert len(cells) == CELL_COUNT
    high = cells["generate", "1k", "high"]
    assert (high["min"], high["max"], high["currency"]) == ("0.06", "0.133", "USD")
    assert high["sellers"] == ["runapi", "runflow-run", "runflow-runs"]
    assert all(Decimal(entry["min"]) <= Decimal(entry["max"]) for entry in prices)


def test_listed_values_are_accepted_by_a_generation(gateway: RunningGateway) -> None:
    model = get(gateway, f"/v1/models/{MODEL}").json()
    for name, values in (("quality", model["qualities"]), ("output_format", model["output_formats"])):
        for value in values:
            body = {"prompt": "a lighthouse", "model": model["id"], name: value}
            assert gateway.http.post(IMAGES_PATH, json=body).status_code == 200


@pytest.mark.parametrize("alias", ["dall-e-3", "gpt-image-1", "gpt-image-2-2026-04-21"])
def test_alias_is_answered_with_a_warning(gateway: RunningGateway, alias: str) -> None:
    answer = get(gateway, f"/v1/models/{alias}")
    assert answer.json()["id"] == MODEL
    assert f"'{alias}' is an alias of '{MODEL}'" in answer.headers["x-igw-warnings"]
    assert "x-igw-warnings" not in get(gateway, f"/v1/models/{MODEL}").headers


@pytest.mark.parametrize(
    "name", ["fal-ai%2Fflux%2Fdev", "fal-ai/flux/dev", "GPT-Image-2", "a" * 3_000, "%F0%9F%90%88", "%0d%0aX-Evil:%201"]
)
@pytest.mark.parametrize("prefix", ["/v1/models", "/models", "/openai/models"])
def test_unknown_model_is_404_that_lists_the_others(gateway: RunningGateway, prefix: str, name: str) -> None:
    error = expect_final_error(get(gateway, f"{prefix}/{name}"), 404, "model_not_found")
    assert (error["param"], MODEL in error["message"]) == ("model", True)
    assert len(error["message"]) < 400


def test_models_need_a_key(gateway: RunningGateway) -> None:
    for path in ("/v1/models", f"/v1/models/{MODEL}", "/v1/models/none"):
        expect_final_error(get(gateway, path, authorization="Bearer other"), 401, "invalid_api_key")


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{MODEL}", "/models", "//v1//models"])
def test_other_methods_are_405(gateway: RunningGateway, method: str, path: str) -> None:
    answer = gateway.http.request(method, gateway.url + path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    assert body["error"]["code"] == "method_not_allowed"
