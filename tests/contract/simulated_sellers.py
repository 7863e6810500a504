"""Shared by tests over real sockets: the simulated sellers, and an order that each of them supports."""

import io
from typing import Any

import pytest
from msgspec import structs
from PIL import Image

from providers import ADAPTERS
from providers.adapter import Adapter
from providers.orders import Feature, ImageBytes, Operation, Order, PixelSize, RatioSize, SizeSpec
from tests.contract import fixture_cases
from tests.contract.adapter_driver import AdapterDriver
from tests.harness.sandbox_runner import RunningSandbox

SANDBOX_ACCOUNTS = {
    name: fixture_cases.get_sandbox_account(adapter)
    for name, adapter in ADAPTERS.items()
    if fixture_cases.get_sandbox_account(adapter)
}
VENDORS_BY_SELLER = {name: account["vendor"] for name, account in SANDBOX_ACCOUNTS.items()}


def list_simulated_sellers(*features: Feature, polled_only: bool = False) -> list[str]:
    """Lists the simulated sellers whose adapter has all these features."""
    adapters = [ADAPTERS[name] for name in SANDBOX_ACCOUNTS]
    capable = [
        adapter
        for adapter in adapters
        if set(features) <= adapter.capabilities.generate_features and not (polled_only and adapter.is_synchronous)
    ]
    return [adapter.name for adapter in capable]


EACH_SELLER = pytest.mark.parametrize("name", list_simulated_sellers())
EACH_POLLED_SELLER = pytest.mark.parametrize("name", list_simulated_sellers(polled_only=True))


def make_driver(sandbox: RunningSandbox, name: str, **options: Any) -> AdapterDriver:
    return AdapterDriver(ADAPTERS[name], sandbox, **options)


def make_order(adapter: Adapter, number: int = 1, **changes: Any) -> Order:
    uses_ratio = Feature.RATIO_SIZE in adapter.capabilities.generate_features
    base_order = Order(
        reference=f"igw-test-{number}",
        operation=Operation.GENERATE,
        model=fixture_cases.get_model(adapter),
        prompt="a lighthouse at dawn",
        size=RatioSize("16:9", "1k") if uses_ratio else PixelSize(1280, 720),
        quality=None if uses_ratio else "low",
    )
    return structs.replace(base_order, **changes)


def make_wide_size(adapter: Adapter) -> SizeSpec:
    """Returns a size of ratio 2:1 that the adapter supports."""
    uses_ratio = Feature.RATIO_SIZE in adapter.capabilities.edit_features
    return RatioSize("2:1", "1k") if uses_ratio else PixelSize(1440, 720)


def make_mask(width: int, height: int) -> ImageBytes:
    data = io.BytesIO()
    Image.new("RGBA", (width, height), (0, 0, 0, 0)).save(data, "PNG")
    return ImageBytes(data.getvalue(), "image/png", "mask.png")


def read_image_info(data: bytes) -> tuple[int, int, str]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.width, image.height, str(image.format).lower()
