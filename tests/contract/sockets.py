"""What tests over real sockets share: the simulated sellers, and an order that each has words for."""

import io
from typing import Any

import pytest
from msgspec import structs
from PIL import Image

from providers import ADAPTERS
from providers.orders import Feature, Operation, Order, Pixels, Quality, Shape
from providers.sizes import Resolution
from providers.spec import Adapter
from tests.contract import cases
from tests.contract.driver import Seller
from tests.vendors import Vendors

SIMULATED = {name: cases.simulated(adapter) for name, adapter in ADAPTERS.items() if cases.simulated(adapter)}
VENDOR = {name: account["vendor"] for name, account in SIMULATED.items()}


def names(*features: Feature, polled: bool = False) -> list[str]:
    """Simulated sellers whose dialect has all these words."""
    adapters = [ADAPTERS[name] for name in SIMULATED]
    able = [one for one in adapters if set(features) <= one.speaks.generate and not (polled and one.holds_connection)]
    return [one.name for one in able]


EACH = pytest.mark.parametrize("name", names())
POLLED = pytest.mark.parametrize("name", names(polled=True))


def seller(sandbox: Vendors, name: str, **options: Any) -> Seller:
    return Seller(ADAPTERS[name], sandbox, **options)


def order(adapter: Adapter, number: int = 1, **changes: Any) -> Order:
    shaped = Feature.SHAPE in adapter.speaks.generate
    plain = Order(
        reference=f"igw-test-{number}",
        operation=Operation.GENERATE,
        model=cases.model(adapter),
        prompt="a lighthouse at dawn",
        size=Shape("16:9", Resolution.ONE_K) if shaped else Pixels(1280, 720),
        quality=None if shaped else Quality.LOW,
    )
    return structs.replace(plain, **changes)


def look(data: bytes) -> tuple[int, int, str]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.width, image.height, str(image.format).lower()
