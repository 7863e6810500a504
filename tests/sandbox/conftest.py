"""Fixtures of the vendors' own tests."""

import pytest

from tests.sandbox.runflow_owner import Owner
from tests.vendors import Vendors


@pytest.fixture
def owner(sandbox: Vendors) -> Owner:
    """Somebody with a key to the simulated Runflow."""
    return Owner(sandbox)
