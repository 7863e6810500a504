"""What tests over real sockets share: the simulated sellers, and an order that each has words for."""

import io
from typing import Any

import pytest
from msgspec import structs
from PIL import Image

from providers import ADAPTERS
from providers.adapter import Adapter
from providers.image_sizes import Resolution
from providers.orders import Feature, Operation, Order, PixelSize, Quality, RatioSize
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
    """Simulated sellers whose dialect has all these words."""
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
        size=RatioSize("16:9", Resolution.ONE_K) if uses_ratio else PixelSize(1280, 720),
        quality=None if uses_ratio else Quality.LOW,
    )
    return structs.replace(base_order, **changes)


def read_image_info(data: bytes) -> tuple[int, int, str]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.width, image.height, str(image.format).lower()
