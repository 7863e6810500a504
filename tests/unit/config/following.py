"""What tests of a catalogue that follows its files share."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.catalogue import Catalogue
from gateway.config.resolving import secrets_in
from gateway.config.watching import Keeper, Reloaded
from gateway.routing.plan import Plan, Question, plan
from providers import ADAPTERS
from providers.orders import Format, ImageRequest, Operation, Quality
from providers.sizes import Resolution, target_of_shape
from tests.unit.config.base import FILES, KEYS

SHAPE = "offers/by-shape.yaml"
ALONE = {
    name: text.replace("[by-shape, by-pixel]", "[by-pixel]").replace(", by-shape: 1", "")
    for name, text in FILES.items()
    if name != SHAPE
}


def keeper(folder: Path, told: list[Reloaded] | None = None) -> Keeper:
    return Keeper(folder, secrets_in(KEYS), ADAPTERS, (told if told is not None else []).append)


@asynccontextmanager
async def watched(folder: Path, told: list[Reloaded] | None = None) -> AsyncIterator[Keeper]:
    kept = keeper(folder, told)
    task = asyncio.create_task(kept.watch())
    try:
        yield kept
    finally:
        assert not task.done(), "the watcher gave up"
        task.cancel()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  what is waited for knows of no event
            await asyncio.sleep(0.01)


def planned(catalogue: Catalogue, model: str = "picture-2") -> Plan:
    request = ImageRequest(
        operation=Operation.GENERATE,
        model=model,
        prompt="",
        n=1,
        target=target_of_shape("16:9", Resolution.ONE_K),
        quality=Quality.HIGH,
        output_format=Format.PNG,
    )
    return plan(catalogue, Question(request=request), {})


def sellers(catalogue: Catalogue) -> set[str]:
    made = planned(catalogue)
    return {one.fit.offer.seller.name for one in made.ranked} | {one.seller for one in made.excluded}


def without(folder: Path, name: str) -> None:
    (folder / name).unlink()


def cheaper(folder: Path, price: str) -> None:
    path = folder / SHAPE
    path.write_text(FILES[SHAPE].replace('"0.06"', f'"{price}"'))
