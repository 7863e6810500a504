"""How each adapter reads its seller's answers: every status, error body and anomaly, by name."""

from typing import Any

import msgspec
import pytest

from providers import ADAPTERS
from providers.adapter import Adapter, Endpoint, Upload
from providers.faults import ChargeStatus
from providers.order_status import Failed, NoAnswer
from tests.contract import fixture_cases

# Cases that every seller's fixtures must contain, or excuse with a reason.
CASES_REQUIRED_OF_ALL = {
    "several images",
    "images, one unreadable",
    "no images: empty list",
    "images missing from the answer",
    "too many images",
    "cost missing",
    "cost negative",
    "cost NaN",
    "cost as text",
    "cost implausible",
    "failed",
    "content refused",
    "no id",
    "not JSON",
    "empty body",
    "truncated JSON",
    *("400", "401", "402", "403", "404", "409", "413", "422", "429", "500", "502 html", "503", "503 html", "504"),
    "429 with a wait",
    "429 with a date",
    "redirect",
}
CASES_REQUIRED_OF_POLLED = {"working", "unknown status", "no status"}
CASES_REQUIRED_OF_CHECKED = {"401", "403", "404", "429", "503 html", "not JSON", "another object"}
CASES_REQUIRED_OF_TICKETED = {"accepted", "unknown status with an id"}


EMPTY_VALUES = ((), [], {})


def status_to_plain_data(value: object) -> Any:
    """Converts a progress to plain data, without empty values and without the seller's messages."""
    data = msgspec.to_builtins(value)
    data.get("fault", {}).pop("message", None)
    return _remove_empty_values(data)


def _remove_empty_values(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _remove_empty_values(item)
            for name, item in value.items()
            if item is not None and item not in EMPTY_VALUES
        }
    return [_remove_empty_values(item) for item in value] if isinstance(value, list | tuple) else value


def get_expected_status(case: dict[str, Any]) -> Any:
    return _remove_empty_values(case["means"])


@pytest.mark.parametrize(("adapter", "case"), fixture_cases.parametrize_cases("submit"))
def test_submit_answer_is_read_as_expected(adapter: Adapter, case: dict[str, Any]) -> None:
    assert status_to_plain_data(adapter.submit.read_answer(fixture_cases.make_answer(case))) == get_expected_status(
        case
    )


@pytest.mark.parametrize(("adapter", "case"), fixture_cases.parametrize_cases("poll"))
def test_poll_answer_is_read_as_expected(adapter: Adapter, case: dict[str, Any]) -> None:
    assert adapter.poll is not None
    assert status_to_plain_data(adapter.poll.read_answer(fixture_cases.make_answer(case))) == get_expected_status(case)


@pytest.mark.parametrize(("adapter", "case"), fixture_cases.parametrize_cases("search"))
def test_search_answer_is_read_as_expected(adapter: Adapter, case: dict[str, Any]) -> None:
    assert adapter.search is not None
    assert status_to_plain_data(adapter.search.read_answer(fixture_cases.make_answer(case))) == get_expected_status(
        case
    )


@pytest.mark.parametrize(("adapter", "case"), fixture_cases.parametrize_cases("check"))
def test_check_answer_is_read_as_expected(adapter: Adapter, case: dict[str, Any]) -> None:
    assert adapter.check is not None
    assert status_to_plain_data(adapter.check.read_answer(fixture_cases.make_answer(case))) == get_expected_status(case)


def _upload_parameters() -> list[Any]:
    return [
        pytest.param(adapter, step, case, id=f"{name}-{step}-{case['case']}")
        for name, adapter in ADAPTERS.items()
        for step in ("prepare", "put", "confirm")
        for case in fixture_cases.list_upload_cases(name, step)
    ]


@pytest.mark.parametrize(("adapter", "endpoint_name", "case"), _upload_parameters())
def test_upload_answer_is_read_as_expected(adapter: Adapter, endpoint_name: str, case: dict[str, Any]) -> None:
    (upload,) = (route for route in adapter.input_transports if isinstance(route, Upload))
    read: Endpoint[Any, Any] = getattr(upload, endpoint_name)
    assert status_to_plain_data(read.read_answer(fixture_cases.make_answer(case))) == get_expected_status(case)


@fixture_cases.EACH_ADAPTER
def test_fixtures_cover_every_required_outcome(adapter: Adapter) -> None:
    """A missing case means that its treatment was never decided."""
    excused = fixture_cases.list_excused_cases(adapter).keys()
    submit_cases = {case["case"] for case in fixture_cases.list_cases(adapter.name, "submit")}
    poll_cases = {case["case"] for case in fixture_cases.list_cases(adapter.name, "poll")}
    missing = CASES_REQUIRED_OF_ALL - submit_cases - poll_cases - excused
    if adapter.poll is not None:
        missing |= CASES_REQUIRED_OF_POLLED - poll_cases - excused
        missing |= {
            name for name in CASES_REQUIRED_OF_TICKETED - excused if not any(name in case for case in submit_cases)
        }
        missing |= {case for case in CASES_REQUIRED_OF_ALL if case[:1].isdigit()} - poll_cases
    missing |= {case for case in CASES_REQUIRED_OF_ALL if case[:1].isdigit()} - submit_cases
    if adapter.check is not None:
        missing |= CASES_REQUIRED_OF_CHECKED - {
            case["case"] for case in fixture_cases.list_cases(adapter.name, "check")
        }
    assert missing == set()


@fixture_cases.EACH_ADAPTER
def test_fixtures_exist_for_every_endpoint(adapter: Adapter) -> None:
    assert bool(fixture_cases.list_cases(adapter.name, "poll")) == (adapter.poll is not None)
    assert bool(fixture_cases.list_cases(adapter.name, "search")) == (adapter.search is not None)
    assert bool(fixture_cases.list_cases(adapter.name, "check")) == (adapter.check is not None)
    assert bool(fixture_cases.load_fixture(adapter.name, "callback")) == (adapter.callback is not None)
    uploads = any(isinstance(route, Upload) for route in adapter.input_transports)
    assert all(
        bool(fixture_cases.list_upload_cases(adapter.name, step)) == uploads for step in ("prepare", "put", "confirm")
    )


@pytest.mark.parametrize(("adapter", "case"), fixture_cases.parametrize_cases("poll"))
def test_failed_poll_never_ends_order(adapter: Adapter, case: dict[str, Any]) -> None:
    """A 503 while polling must not lead to a second order."""
    assert adapter.poll is not None
    status = adapter.poll.read_answer(fixture_cases.make_answer(case))
    if not 200 <= case["status"] < 300:
        assert isinstance(status, NoAnswer)


@pytest.mark.parametrize(("adapter", "case"), fixture_cases.parametrize_cases("submit"))
def test_failed_submit_is_final_only_when_charge_is_certain(adapter: Adapter, case: dict[str, Any]) -> None:
    status = adapter.submit.read_answer(fixture_cases.make_answer(case))
    if isinstance(status, NoAnswer):
        assert status.fault.verdict.charge_status is ChargeStatus.UNKNOWN
    if isinstance(status, Failed) and case["status"] >= 300:
        assert status.fault.verdict.charge_status is ChargeStatus.NOT_CHARGED
