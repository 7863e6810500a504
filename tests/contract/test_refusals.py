"""What no dialect may send, whoever asks for it."""

import pytest
from msgspec import structs

from providers import ADAPTERS
from providers.orders import InexpressibleError, Operation
from providers.spec import Adapter, Upload
from tests.contract import orders

EACH_ADAPTER = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=list(ADAPTERS))


@EACH_ADAPTER
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
        {"prompt": "half a character: \ud800"},
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is(adapter: Adapter, hostile: dict[str, str]) -> None:
    with pytest.raises(InexpressibleError):
        adapter.submit.ask(structs.replace(orders.plain(adapter, Operation.GENERATE), **hostile))


@pytest.mark.parametrize(("name", "seconds"), [("runflow_runs", 86_400), ("runflow_run", 86_400), ("runapi", 3_600)])
def test_an_uploaded_input_is_used_while_its_link_lasts(name: str, seconds: int) -> None:
    """Runflow's pages say days, so a day is safe; RunAPI's say one hour."""
    (upload,) = (route for route in ADAPTERS[name].inputs if isinstance(route, Upload))
    assert upload.lasts_seconds == seconds
    assert upload.max_bytes == 50 << 20
