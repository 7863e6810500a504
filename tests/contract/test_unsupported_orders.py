"""Orders that every adapter rejects before it sends anything."""

import pytest
from msgspec import structs

from providers import ADAPTERS
from providers.adapter import Adapter, Upload
from providers.orders import Operation, UnsupportedOrder
from tests.contract import fixture_cases, order_factory


@fixture_cases.EACH_ADAPTER
@pytest.mark.parametrize(
    "hostile",
    [
        {"reference": ""},
        {"reference": "r\r\nx: y"},
        {"reference": "a" * 256},
        {"reference": "ä"},
        {"model": "../../admin?x="},
        {"model": "a//b"},
        {"model": ""},
        {"prompt": "a lone surrogate: \ud800"},
    ],
)
def test_invalid_order_is_rejected_before_sending(adapter: Adapter, hostile: dict[str, str]) -> None:
    with pytest.raises(UnsupportedOrder):
        adapter.submit.build_call(
            structs.replace(order_factory.make_minimal_order(adapter, Operation.GENERATE), **hostile)
        )


@pytest.mark.parametrize(("name", "seconds"), [("runflow_runs", 86_400), ("runflow_run", 86_400), ("runapi", 3_600)])
def test_uploaded_input_is_reused_while_its_url_is_valid(name: str, seconds: int) -> None:
    """Runflow's pages promise days, so one day is safe; RunAPI's promise one hour."""
    (upload,) = (route for route in ADAPTERS[name].input_transports if isinstance(route, Upload))
    assert upload.ttl_seconds == seconds
    assert upload.max_bytes == 50 << 20
