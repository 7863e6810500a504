"""A batch is ordered with the present options of its API key."""

from types import SimpleNamespace
from typing import Any

from msgspec.structs import replace

from gateway.access.key_changes import KeyChange
from gateway.api.batches.batch_principal import find_batch_principal
from gateway.api.batches.batch_records import Batch, OutputFile
from gateway.catalogue import ConfiguredKey
from gateway.config.schema import RateLimits
from gateway.jobs.budgets import BudgetLimits, KeyBudget
from tests.harness.virtual_time_loop import in_virtual_time
from tests.unit.access.key_fixtures import ADMIN, NOON, KeyWorld, get_catalogue


def make_batch(key_id: str) -> Batch:
    return Batch(
        id="batch_1",
        team="design",
        created_at=NOON,
        key_id=key_id,
        expires_at=NOON + 60.0,
        endpoint="/v1/images/generations",
        input_file_id="file-1",
        output=OutputFile(id="file-2"),
        errors_output=OutputFile(id="file-3"),
        policies=("cheapest",),
        limits=RateLimits(concurrent_jobs=1),
        limits_id=key_id,
        budget=BudgetLimits(day=1),
    )


@in_virtual_time
async def test_options_are_those_of_the_key_now() -> None:
    world = KeyWorld()
    key, registry = await world.create_key(), world.make_registry()
    context: Any = SimpleNamespace(key_registry=registry, catalogue=get_catalogue)
    batch = make_batch(key.id)
    principal = find_batch_principal(context, batch)
    assert principal.policies == ("cheapest",), "the replica has not loaded the key: as it was"
    assert (principal.limits, principal.key_budget) == (batch.limits, KeyBudget(key.id, batch.budget))
    change = KeyChange(policies=("steady",), budget={"month": 9}, limits={"images_per_minute": 2})
    await world.make_administration().change_key(key.id, change, ADMIN)
    await registry.refresh()
    principal = find_batch_principal(context, batch)
    assert (principal.policies, principal.limits) == (("steady",), RateLimits(images_per_minute=2))
    assert principal.key_budget == KeyBudget(key.id, BudgetLimits(month=9))


@in_virtual_time
async def test_budget_is_that_of_the_configuration_in_force() -> None:
    """Two teams may have keys of the same reference one after the other."""
    reference, budget = "env:IGW_KEY_DESIGN", BudgetLimits(week=5)
    keys = {"1": ConfiguredKey(reference, "other"), "2": ConfiguredKey(reference, "design", budget)}
    catalogue = replace(get_catalogue(), configured_keys=keys)
    context: Any = SimpleNamespace(key_registry=KeyWorld().make_registry(), catalogue=lambda: catalogue)
    principal = find_batch_principal(context, make_batch(reference))
    assert (principal.team, principal.key_budget) == ("design", KeyBudget(reference, budget))
