"""Reads job responses, and checks orders and ledger entries."""

from typing import Any

from tests.flow.flow_config import PRICE_MICROS
from tests.flow.order_flow import JobJson, OrderFlow


def make_unknown_id(job_id: str) -> str:
    """Returns a valid id of the same partition that no job has: the gateway never writes the digit 0 there."""
    return f"{job_id[:-1]}0"


def format_fault(fault: dict[str, Any]) -> str:
    return "-".join(str(value) for value in fault.values() if not isinstance(value, dict | float))


def get_error_code(job: JobJson) -> str | None:
    return job["error"] and job["error"]["code"]


def get_status_and_code(job: JobJson) -> tuple[str, str]:
    return job["status"], job["error"]["code"]


def get_faults_by_seller(job: JobJson) -> list[Any]:
    return [(attempt["seller"], attempt["fault"]) for attempt in job["attempts"]]


def get_attempted_sellers(job: JobJson) -> list[str]:
    """Returns the sellers of the job's attempts, in order."""
    return [attempt["seller"] for attempt in job["attempts"]]


def expect_one_capture(flow: OrderFlow, seller: str, job: JobJson) -> None:
    assert job["status"] == "completed"
    assert len(job["images"]) == 1
    assert flow.count_orders(seller) == 1
    assert flow.sum_ledger_by_line() == {(seller, "capture"): PRICE_MICROS[seller]}
