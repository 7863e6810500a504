"""Runs all checks at the same time. Each has a time limit, so that a host that is gone is a finding, not a hang."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from gateway.commands.doctor.configuration_checks import check_secrets, check_signing_secret
from gateway.commands.doctor.doctor_context import DoctorContext
from gateway.commands.doctor.doctor_finding import DoctorFinding, Status
from gateway.commands.doctor.gateway_checks import check_gateway
from gateway.commands.doctor.machine_checks import check_clock, check_limits
from gateway.commands.doctor.moderation_checks import check_moderation
from gateway.commands.doctor.seller_checks import check_sellers
from gateway.commands.doctor.storage_checks import check_storage
from gateway.commands.doctor.store_checks import check_store
from gateway.events import describe_exception

Check = Callable[[DoctorContext], Awaitable[list[DoctorFinding]]]
# In the order of the report.
CHECKS: Mapping[str, Check] = {
    "secrets": check_secrets,
    "signing secret": check_signing_secret,
    "store": check_store,
    "storage": check_storage,
    "sellers": check_sellers,
    "moderation": check_moderation,
    "gateway": check_gateway,
    "limits": check_limits,
}


async def run_checks(context: DoctorContext, checks: Mapping[str, Check] = CHECKS) -> list[DoctorFinding]:
    """Runs the checks. One may still be blocked in a thread afterwards."""
    results = await asyncio.gather(*(_run_check(context, name, check) for name, check in checks.items()))
    return [*(finding for findings in results for finding in findings), *check_clock(context)]


def report_timeout(name: str, timeout_seconds: float) -> DoctorFinding:
    message = f"The check did not end within {timeout_seconds:g} s."
    remedy = "A disk or a host does not respond. Repair it, or allow more time with --timeout."
    return DoctorFinding(name, Status.FAILED, message, remedy)


async def _run_check(context: DoctorContext, name: str, check: Check) -> list[DoctorFinding]:
    # Not asyncio.timeout: it would wait for a check that is busy with its own cancellation.
    task = asyncio.ensure_future(check(context))
    await asyncio.wait([task], timeout=context.timeout_seconds)
    if not task.done():
        task.cancel()
        return [report_timeout(name, context.timeout_seconds)]
    if error := task.exception():
        message = f"The check failed with an internal error: {describe_exception(error)}."
        return [DoctorFinding(name, Status.FAILED, message, "Report it with this line.")]
    return task.result()
