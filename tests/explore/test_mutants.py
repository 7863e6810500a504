"""The mutants still fit the engine. `make mutants` lets the explorer catch each of them."""

import pytest

from tests.explore.explorer import explore
from tests.explore.mutants import MUTANTS, Mutant, apply_mutant, catch_mutant


def get_current(owner: object, name: object) -> object:
    return owner[name] if isinstance(owner, dict) else vars(owner)[name]  # type: ignore[index]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_replaces_functions_that_exist(mutant: Mutant) -> None:
    originals = [get_current(change.owner, change.name) for change in mutant.patches]
    with apply_mutant(mutant):
        assert all(
            get_current(change.owner, change.name) is not original
            for change, original in zip(mutant.patches, originals, strict=True)
        )
    assert [get_current(change.owner, change.name) for change in mutant.patches] == originals


@pytest.mark.parametrize("name", ["blind resubmit", "retry after content refusal", "ticket bound to another attempt"])
def test_explorer_catches_mutant(name: str) -> None:
    """Three that are caught at once. The others follow in `make mutants`."""
    [mutant] = [mutant for mutant in MUTANTS if mutant.name == name]
    catch = catch_mutant(mutant)
    assert catch is not None
    assert not explore(catch.seed).violations, "the same run without the mutant must pass"


@pytest.mark.thorough
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_explorer_catches_each_mutant(mutant: Mutant) -> None:
    assert catch_mutant(mutant) is not None
