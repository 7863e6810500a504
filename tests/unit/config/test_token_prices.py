"""Token prices of an offer, for sellers that bill by tokens."""

from pathlib import Path

import pytest

from tests.unit.config.sample_config import SAMPLE_FILES, list_problems, resolve_config, write_config

TOKEN_PRICES = '    tokens: {input_text: "5", input_image: "8", output: "32"%s}\n    prices:\n'


def write_token_prices(folder: Path, more: str) -> Path:
    offers = SAMPLE_FILES["offers/by-shape.yaml"].replace("    prices:\n", TOKEN_PRICES % more)
    return write_config(folder, SAMPLE_FILES | {"offers/by-shape.yaml": offers})


@pytest.mark.parametrize(
    ("more", "image_tokens"), [("", 7_000), (", image_tokens: 7000", 7_000), (", image_tokens: 64", 64)]
)
def test_image_tokens_are_configurable(tmp_path: Path, more: str, image_tokens: int) -> None:
    resolved = resolve_config(write_token_prices(tmp_path, more))
    assert resolved.problems == ()
    assert resolved.catalogue is not None
    (offer,) = [offer for offer in resolved.catalogue.iter_offers() if offer.seller.name == "by-shape"]
    assert offer.token_prices is not None
    assert offer.token_prices.image_tokens == image_tokens


@pytest.mark.parametrize("image_tokens", ["0", "1000001", "1.5"])
def test_invalid_image_tokens_are_reported(tmp_path: Path, image_tokens: str) -> None:
    (problem,) = list_problems(write_token_prices(tmp_path, f", image_tokens: {image_tokens}"))
    assert "image_tokens" in problem
