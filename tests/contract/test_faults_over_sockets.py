"""Under each of the sandbox's faults: what an adapter believes about money agrees with the vendor's own invoice."""

from typing import Any

import httpx
import pytest
from msgspec import structs

from providers import ADAPTERS
from providers.faults import Bought, FaultKind
from providers.orders import Inline
from providers.progress import Failed, Ready, Unanswered, Working
from tests.contract.sockets import EACH, POLLED, VENDOR, look, order, seller
from tests.vendors import Vendors

# What one submit under each fault may say about money. The vendor's own invoice is the judge.
FAULTS: list[dict[str, Any]] = [
    {"kind": "reset_before"},
    {"kind": "reset_after"},
    {"kind": "truncate"},
    {"kind": "refuse"},
    {"kind": "html"},
    {"kind": "html", "accepted": True},
    {"kind": "html", "status": 200, "accepted": True},
    *({"kind": "status", "status": status} for status in (400, 401, 402, 403, 404, 408, 409, 413, 422, 429)),
    *({"kind": "status", "status": status} for status in (500, 502, 503, 504)),
    *({"kind": "status", "status": status, "accepted": True} for status in (500, 502, 504)),
    {"kind": "hang", "seconds": 1.0, "accepted": True},
    {"kind": "hang", "seconds": 1.0},
    {"kind": "slow", "seconds": 0.1},
    {"kind": "fail"},
    {"kind": "refuse_content"},
    {"kind": "empty_outputs"},
    {"kind": "partial"},
    {"kind": "downgrade"},
    {"kind": "expired_url"},
    {"kind": "stuck"},
]


@EACH
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: "-".join(str(value) for value in fault.values()))
def test_what_the_adapter_believes_about_money_is_true(
    sandbox: Vendors, name: str, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault["kind"] == "stuck":
        monkeypatch.setattr("tests.contract.driver.DEADLINE_SECONDS", 0.3)
    shop = seller(sandbox, name, timeout=0.5)
    sandbox.fault(vendor=VENDOR[name], **fault)
    progress = shop.buy(order(shop.adapter))
    images = sum(charge["images"] for charge in sandbox.charges())
    if isinstance(progress, Ready):
        assert len(progress.pictures) == images == 1
    elif isinstance(progress, Failed | Unanswered):
        bought = progress.fault.bought
        assert (bought is Bought.NO) <= (images == 0), progress
        assert (bought is Bought.YES) <= (images > 0), progress
    else:
        assert isinstance(progress, Working)
        assert fault["kind"] == "stuck"


@EACH
def test_a_refused_content_is_known_for_what_it_is(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    sandbox.fault("refuse_content", vendor=VENDOR[name])
    refused = shop.buy(order(shop.adapter))
    assert isinstance(refused, Failed)
    assert refused.fault.kind is FaultKind.CONTENT_REFUSED


@EACH
def test_an_empty_success_is_known_to_be_paid_for(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    sandbox.fault("empty_outputs", vendor=VENDOR[name])
    empty = shop.buy(order(shop.adapter))
    assert isinstance(empty, Failed)
    assert empty.fault.kind is FaultKind.EMPTY
    assert len(sandbox.charges()) == 1


@EACH
def test_no_credit_is_known_and_nothing_is_charged(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    sandbox.balance(VENDOR[name], "0.001")
    refused = shop.buy(order(shop.adapter))
    assert isinstance(refused, Failed)
    assert refused.fault.kind is FaultKind.NO_CREDIT
    assert sandbox.charges() == []


@EACH
def test_a_bad_key_is_known(sandbox: Vendors, name: str) -> None:
    refused = seller(sandbox, name, key="wrong").submit(order(ADAPTERS[name]))
    assert isinstance(refused, Failed)
    assert refused.fault.kind is FaultKind.BAD_KEY


@POLLED
def test_an_outage_while_polling_ends_nothing(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    sandbox.fault("status", vendor=VENDOR[name], route="poll", status=503, times=3)
    assert isinstance(shop.buy(order(shop.adapter)), Ready)
    assert len(sandbox.charges()) == 1


@EACH
def test_expired_links_are_the_sellers_and_cannot_be_fetched(sandbox: Vendors, name: str) -> None:
    shop = seller(sandbox, name)
    sandbox.fault("expired_url", vendor=VENDOR[name])
    ready = shop.buy(order(shop.adapter))
    assert isinstance(ready, Ready)
    if all(isinstance(picture, Inline) for picture in ready.pictures):
        assert shop.pictures(ready)
        return
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        shop.pictures(ready)


def test_inline_output_of_the_synchronous_route_is_read(sandbox: Vendors) -> None:
    """`sync_mode` is never asked for; a seller that answers so anyway is understood."""
    shop = seller(sandbox, "runflow_run")
    call = shop.adapter.submit.ask(order(shop.adapter))
    assert isinstance(call.body, bytes)
    answer = shop.perform(structs.replace(call, body=call.body.replace(b'"quality"', b'"sync_mode":true,"quality"')))
    assert not isinstance(answer, Unanswered)
    ready = shop.adapter.submit.read(answer)
    assert isinstance(ready, Ready)
    assert isinstance(ready.pictures[0], Inline)
    assert look(ready.pictures[0].data)[:2] == (1280, 720)
