"""The charge status that each adapter reports under each injected fault agrees with the vendor's invoice."""

from typing import Any

import httpx
import pytest
from msgspec import structs

from providers import ADAPTERS
from providers.account_status import AccountStatus
from providers.faults import ChargeStatus, FaultKind
from providers.order_status import Failed, InProgress, NoAnswer, Ready
from providers.orders import ImageBytes
from tests.contract.simulated_sellers import (
    EACH_POLLED_SELLER,
    EACH_SELLER,
    VENDORS_BY_SELLER,
    make_driver,
    make_order,
    read_image_info,
)
from tests.harness.sandbox_runner import RunningSandbox

# The faults injected into one submit each. The vendor's invoice decides which charge status is correct.
SANDBOX_FAULTS: list[dict[str, Any]] = [
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
    {"kind": "half_size"},
    {"kind": "expired_url"},
    {"kind": "stuck"},
]


@pytest.mark.one_in(4)
@EACH_SELLER
@pytest.mark.parametrize("fault", SANDBOX_FAULTS, ids=lambda fault: "-".join(str(value) for value in fault.values()))
def test_charge_status_agrees_with_vendors_invoice(sandbox: RunningSandbox, name: str, fault: dict[str, Any]) -> None:
    driver = make_driver(sandbox, name, timeout=0.5, order_timeout=0.3 if fault["kind"] == "stuck" else 60.0)
    sandbox.inject_fault(vendor=VENDORS_BY_SELLER[name], **fault)
    status = driver.submit_and_poll(make_order(driver.adapter))
    images = sum(charge["images"] for charge in sandbox.list_charges())
    if isinstance(status, Ready):
        assert len(status.images) == images == 1
    elif isinstance(status, Failed | NoAnswer):
        charge_status = status.fault.charge_status
        assert (charge_status is ChargeStatus.NOT_CHARGED) <= (images == 0), status
        assert (charge_status is ChargeStatus.CHARGED) <= (images > 0), status
    else:
        assert isinstance(status, InProgress)
        assert fault["kind"] == "stuck"


@EACH_SELLER
@pytest.mark.parametrize(
    ("fault", "expected", "charges"),
    [("refuse_content", FaultKind.CONTENT_REFUSED, None), ("empty_outputs", FaultKind.NO_IMAGES, 1)],
)
def test_failed_order_is_recognized(
    sandbox: RunningSandbox, name: str, fault: str, expected: FaultKind, charges: int | None
) -> None:
    """`charges`: None if the vendors differ."""
    driver = make_driver(sandbox, name)
    sandbox.inject_fault(fault, vendor=VENDORS_BY_SELLER[name])
    failed = driver.submit_and_poll(make_order(driver.adapter))
    assert isinstance(failed, Failed)
    assert failed.fault.kind is expected
    assert charges in (None, len(sandbox.list_charges()))


@EACH_SELLER
def test_missing_credit_is_recognized_and_not_charged(sandbox: RunningSandbox, name: str) -> None:
    driver = make_driver(sandbox, name)
    sandbox.set_balance(VENDORS_BY_SELLER[name], "0.001")
    failed = driver.submit_and_poll(make_order(driver.adapter))
    assert isinstance(failed, Failed)
    assert failed.fault.kind is FaultKind.NO_CREDIT
    assert sandbox.list_charges() == []


@EACH_SELLER
def test_invalid_key_is_recognized(sandbox: RunningSandbox, name: str) -> None:
    failed = make_driver(sandbox, name, api_key="wrong").submit(make_order(ADAPTERS[name]))
    assert isinstance(failed, Failed)
    assert failed.fault.kind is FaultKind.INVALID_KEY


@EACH_SELLER
def test_account_check_shows_valid_key_and_balance_and_is_free(sandbox: RunningSandbox, name: str) -> None:
    driver, vendor = make_driver(sandbox, name), VENDORS_BY_SELLER[name]
    assert driver.adapter.check is not None
    sandbox.set_balance(vendor, "12.34")
    status = driver.call_endpoint(driver.adapter.check, None)
    assert status in (AccountStatus(12_340_000), AccountStatus(None))
    sandbox.set_balance(vendor, "0")
    assert driver.call_endpoint(driver.adapter.check, None) in (AccountStatus(0), AccountStatus(None))
    assert (status.balance is None) == (vendor == "openai")
    assert sandbox.list_charges() == []
    assert len(sandbox.list_requests(vendor, "account")) == 2
    assert sandbox.list_requests(vendor) == []


@EACH_SELLER
def test_account_check_recognizes_invalid_key(sandbox: RunningSandbox, name: str) -> None:
    driver = make_driver(sandbox, name, api_key="wrong")
    assert driver.adapter.check is not None
    status = driver.call_endpoint(driver.adapter.check, None)
    assert isinstance(status, NoAnswer)
    assert status.fault.kind is FaultKind.INVALID_KEY


@pytest.mark.parametrize("shape", ["balance", "balance_cents"])
def test_account_check_reads_both_shapes_of_runflow(sandbox: RunningSandbox, shape: str) -> None:
    driver = make_driver(sandbox, "runflow_runs")
    sandbox.set_balance("runflow", "12.34")
    assert driver.adapter.check is not None
    with sandbox.override_switches("runflow", balance_body=shape):
        assert driver.call_endpoint(driver.adapter.check, None) == AccountStatus(12_340_000)


@EACH_POLLED_SELLER
def test_outage_while_polling_does_not_end_order(sandbox: RunningSandbox, name: str) -> None:
    driver = make_driver(sandbox, name)
    sandbox.inject_fault("status", vendor=VENDORS_BY_SELLER[name], route="poll", status=503, times=3)
    assert isinstance(driver.submit_and_poll(make_order(driver.adapter)), Ready)
    assert len(sandbox.list_charges()) == 1


@EACH_SELLER
def test_expired_image_urls_cannot_be_fetched(sandbox: RunningSandbox, name: str) -> None:
    driver = make_driver(sandbox, name)
    sandbox.inject_fault("expired_url", vendor=VENDORS_BY_SELLER[name])
    ready = driver.submit_and_poll(make_order(driver.adapter))
    assert isinstance(ready, Ready)
    if all(isinstance(image, ImageBytes) for image in ready.images):
        assert driver.fetch_images(ready)
        return
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        driver.fetch_images(ready)


def test_inline_output_of_synchronous_route_is_read(sandbox: RunningSandbox) -> None:
    """The adapter never requests `sync_mode`, but reads inline images."""
    driver = make_driver(sandbox, "runflow_run")
    call = driver.adapter.submit.build_call(make_order(driver.adapter))
    assert isinstance(call.body, bytes)
    answer = driver.send(structs.replace(call, body=call.body.replace(b'"quality"', b'"sync_mode":true,"quality"')))
    assert not isinstance(answer, NoAnswer)
    ready = driver.adapter.submit.read_answer(answer)
    assert isinstance(ready, Ready)
    assert isinstance(ready.images[0], ImageBytes)
    assert read_image_info(ready.images[0].data)[:2] == (1280, 720)
