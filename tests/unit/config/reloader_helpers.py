"""Helpers for tests of the reloader."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.catalogue import Catalogue, Offer
from gateway.config.catalogue_builder import secrets_from_env
from gateway.config.reloader import ConfigReloader, ReloadResult
from gateway.routing.plan import Plan, RoutingQuery, make_plan
from providers import ADAPTERS
from tests.harness.image_model import target_from_ratio
from tests.unit.config.sample_config import SAMPLE_ENVIRON, SAMPLE_FILES
from tests.unit.routing.catalogue_factory import make_request

BY_SHAPE_FILE = "offers/by-shape.yaml"
FILES_WITHOUT_BY_SHAPE = {
    name: text.replace("[by-shape, by-pixel]", "[by-pixel]").replace(", by-shape: 1", "")
    for name, text in SAMPLE_FILES.items()
    if name != BY_SHAPE_FILE
}


def make_reloader(folder: Path, reloads: list[ReloadResult] | None = None) -> ConfigReloader:
    return ConfigReloader(
        folder, secrets_from_env(SAMPLE_ENVIRON), ADAPTERS, (reloads if reloads is not None else []).append
    )


def reload_and_get_offer(reloader: ConfigReloader) -> Offer:
    """Reloads the configuration, and returns the offer of `by-shape` as its running orders see it."""
    assert reload_now(reloader).is_applied, reloader.last_result.resolved.problems
    offer = reloader.current.find_offer("by-shape", "image-2")
    assert offer is not None
    return offer


def reload_now(reloader: ConfigReloader) -> ReloadResult:
    return asyncio.run(reloader.reload())


@asynccontextmanager
async def run_reloader(folder: Path, reloads: list[ReloadResult] | None = None) -> AsyncIterator[ConfigReloader]:
    reloader = make_reloader(folder, reloads)
    task = asyncio.create_task(reloader.run())
    try:
        yield reloader
    finally:
        assert not task.done(), "the watcher gave up"
        task.cancel()


def plan_sample_request(catalogue: Catalogue, model: str = "image-2") -> Plan:
    request = make_request(model=model, target=target_from_ratio("16:9", "1k"))
    return make_plan(catalogue, RoutingQuery(request=request), {})


def list_sellers(catalogue: Catalogue) -> set[str]:
    plan_result = plan_sample_request(catalogue)
    return {entry.fit.offer.seller.name for entry in plan_result.ranked} | {
        entry.seller for entry in plan_result.excluded
    }


def remove_file(folder: Path, name: str) -> None:
    (folder / name).unlink()


def set_price(folder: Path, price: str) -> None:
    path = folder / BY_SHAPE_FILE
    path.write_text(SAMPLE_FILES[BY_SHAPE_FILE].replace('"0.06"', f'"{price}"'))
