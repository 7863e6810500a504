"""Checks the accounts at sellers with their keys. Only routes that are free are called."""

import asyncio
from email.utils import parsedate_to_datetime

from gateway.catalogue import Seller, SellerAccount
from gateway.commands.doctor.doctor_context import DoctorContext
from gateway.commands.doctor.doctor_finding import DoctorFinding, Status
from gateway.engine.account_checker import CheckableAccount, CheckEndpoint, list_checkable_accounts
from gateway.money import format_usd
from gateway.store.inspection import ClockSample
from gateway.upstream.seller_client import CallOptions, SellerClient
from providers.account_status import AccountStatus
from providers.adapter import Answer
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer

# With a lower balance than for so many of the dearest images, the finding is a warning.
MIN_AFFORDABLE_IMAGES = 20
# The Date header has whole seconds, so it is half a second old on average.
DATE_RESOLUTION_SECONDS = 1.0
RETRY_REMEDY = "Run doctor again later. Orders fail over to other sellers meanwhile."
_UNREACHABLE_REMEDY = (
    "Check base_url and proxy of this account, name resolution and firewall. An address in a private network needs "
    "`private: true`."
)
# For each fault: the status of the finding, its meaning, and the remedy.
FAULT_REPORTS = {
    FaultKind.INVALID_KEY: (
        Status.FAILED,
        "the key is not valid",
        "Replace the key: `key` of this account in accounts.yaml says where it is.",
    ),
    FaultKind.NO_CREDIT: (Status.FAILED, "there is no credit left", "Add credit there."),
    FaultKind.NOT_SENT: (Status.FAILED, "it cannot be reached", _UNREACHABLE_REMEDY),
    FaultKind.RESPONSE_LOST: (Status.FAILED, "it does not respond", _UNREACHABLE_REMEDY),
    FaultKind.FORBIDDEN: (
        Status.WARNING,
        "this key may not query the account",
        "Orders may work nevertheless. To see the balance, give the key the right to read it.",
    ),
    FaultKind.NOT_FOUND: (
        Status.WARNING,
        "it has no route that shows whether the key is valid",
        "Orders may work nevertheless. Compare base_url with the seller's documentation.",
    ),
}


async def check_sellers(context: DoctorContext) -> list[DoctorFinding]:
    """Checks all accounts at the same time: those without a key are only reported."""
    if context.catalogue is None:
        return [DoctorFinding("sellers", Status.SKIPPED, "The configuration is invalid")]
    async with SellerClient() as client:
        checks = [_check_account(context, client, check) for check in list_checkable_accounts(context.catalogue)]
        return list(await asyncio.gather(*checks))


async def _check_account(context: DoctorContext, client: SellerClient, check: CheckableAccount) -> DoctorFinding:
    name = f"seller {check.account.name}"
    if check.account.api_key is None:
        return DoctorFinding(name, Status.SKIPPED, "It has no usable API key, or no proxy, so it is disabled")
    if check.seller is None or check.seller.adapter.check is None:
        return DoctorFinding(
            name, Status.SKIPPED, "Its adapters have no free route that shows whether the key is valid"
        )
    status = await _query_account(context, client, check.seller, check.seller.adapter.check)
    if isinstance(status, NoAnswer):
        return _report_fault(name, check.account, status.fault)
    return _report_balance(name, check, status)


async def _query_account(
    context: DoctorContext, client: SellerClient, seller: Seller, endpoint: CheckEndpoint
) -> AccountStatus | NoAnswer:
    timeout = context.request_timeout_seconds
    options = CallOptions(timeout_seconds=1.5 * timeout, connect_timeout_seconds=timeout)
    sent_at = context.wall_clock()
    answer = await client.send(endpoint.build_call(None), seller, options)
    if isinstance(answer, NoAnswer):
        return answer
    context.clock_samples += _measure_clock(seller.account.name, answer, sent_at, context.wall_clock())
    return endpoint.read_answer(answer)


def _measure_clock(source: str, answer: Answer, sent_at: float, received_at: float) -> list[ClockSample]:
    try:
        seconds = parsedate_to_datetime(answer.headers.get("date", "")).timestamp() + DATE_RESOLUTION_SECONDS / 2
    except (ValueError, TypeError, OverflowError):
        return []
    sample = ClockSample.measure(source, seconds, sent_at, received_at)
    return [ClockSample(source, sample.offset, sample.uncertainty + DATE_RESOLUTION_SECONDS / 2)]


def _report_balance(name: str, check: CheckableAccount, status: AccountStatus) -> DoctorFinding:
    if status.balance is None:
        return DoctorFinding(name, Status.OK, "The key is valid; this seller does not show a balance")
    balance = f"${format_usd(status.balance)}"
    if status.balance <= 0:
        return DoctorFinding(
            name, Status.FAILED, f"The key is valid, but the balance is {balance}.", "Add credit there."
        )
    if status.balance < MIN_AFFORDABLE_IMAGES * check.dearest_price:
        images = status.balance // check.dearest_price
        message = f"The key is valid. The balance of {balance} pays for {images} more of the dearest images."
        return DoctorFinding(name, Status.WARNING, message, "Add credit there, or switch on automatic refill.")
    return DoctorFinding(name, Status.OK, f"The key is valid; the balance is {balance}")


def _report_fault(name: str, account: SellerAccount, fault: Fault) -> DoctorFinding:
    """Reports by kind and status. The seller's text might repeat the key."""
    answer = f"It answered {fault.status}" if fault.status else f"{account.base_url} did not answer ({fault.message})"
    status, explanation, remedy = FAULT_REPORTS.get(fault.kind, (Status.WARNING, f"fault {fault.kind}", RETRY_REMEDY))
    return DoctorFinding(name, status, f"{answer}: {explanation}.", remedy)
