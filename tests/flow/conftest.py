"""One gateway on each store for each test process, and the books compared after every test."""

from collections.abc import Iterator

import pytest

from tests import vendors
from tests.flow.gateways import Flow
from tests.flow.places import STORES, Kept, kept_on

# How much faster than they say the vendors call back again.
CALLBACK_PACE = 0.02


@pytest.fixture(scope="session", params=STORES)
def kept(
    request: pytest.FixtureRequest, sandbox_process: vendors.Vendors, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """A gateway, and the way behind its store's back."""
    with kept_on(request.param, tmp_path_factory.mktemp(request.param), sandbox_process) as kept:
        yield kept


@pytest.fixture
def flow(kept: Kept, sandbox: vendors.Vendors) -> Iterator[Flow]:
    """A gateway with nothing to do, a sandbox that has sold nothing; in the end the one's books are the other's."""
    gateway, raw = kept
    sandbox.control("POST", "/switches", {"callback_pace": CALLBACK_PACE})
    try:
        flow = Flow(gateway, sandbox, raw)
        yield flow
        flow.check_books()
    finally:
        sandbox.control("POST", "/switches", {"callback_pace": 1.0})
