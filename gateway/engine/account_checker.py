"""Checks the accounts at sellers with free queries: whether the key is valid, and the balance.

One replica does it for all: they exchange the results with their health. After a refusal, such a check and nothing else
closes the circuit breaker of the account.
"""

import asyncio
from collections.abc import Iterator, Sequence

from msgspec import Struct

from gateway.catalogue import Catalogue, Offer, Seller, SellerAccount
from gateway.engine.account_events import AccountRestored
from gateway.engine.engine_context import EngineContext
from gateway.health.account_check import FAULTS_BY_REFUSAL, AccountCheck, CheckOutcome
from gateway.health.circuit_breaker import Refusal
from gateway.task_supervisor import SupervisedTask
from gateway.upstream.seller_client import CallOptions
from providers.account_status import AccountStatus
from providers.adapter import Endpoint
from providers.faults import FaultKind
from providers.order_status import NoAnswer

CheckEndpoint = Endpoint[None, AccountStatus | NoAnswer]
# The outcome of a check whose answer is a fault. Other faults say nothing about the account: the check is repeated.
OUTCOMES_BY_FAULT = {
    FaultKind.INVALID_KEY: CheckOutcome.INVALID_KEY,
    FaultKind.NO_CREDIT: CheckOutcome.LOW_CREDIT,
    FaultKind.FORBIDDEN: CheckOutcome.UNSUPPORTED,
    FaultKind.NOT_FOUND: CheckOutcome.UNSUPPORTED,
    FaultKind.INVALID_ORDER: CheckOutcome.UNSUPPORTED,
}


class CheckableAccount(Struct, frozen=True):
    """One account, a seller whose adapter can check it, if there is one, and the most that an image costs there."""

    account: SellerAccount
    seller: Seller | None
    dearest_price: int


def list_checkable_accounts(catalogue: Catalogue) -> list[CheckableAccount]:
    """Returns all accounts, also those without a key or without a check."""
    offers = list(catalogue.iter_offers())
    return [_make_checkable_account(account, offers) for account in catalogue.accounts.values()]


def _make_checkable_account(account: SellerAccount, offers: Sequence[Offer]) -> CheckableAccount:
    own = [offer for offer in offers if offer.seller.account.name == account.name]
    seller = next((offer.seller for offer in own if offer.seller.adapter.check), None)
    dearest_price = max((price.ceiling for offer in own for price in offer.prices.values()), default=0)
    return CheckableAccount(account, seller, dearest_price)


class AccountChecker:
    """Checks each account in intervals, and a refused one more often."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        # When this replica last sent a check, by account. A check without an answer is not repeated at once.
        self._sent_at: dict[str, float] = {}

    async def run(self, task: SupervisedTask) -> None:
        while True:
            await self.check_due_accounts()
            task.record_success()
            await asyncio.sleep(self._context.timing.maintenance.account_poll_seconds)

    async def check_due_accounts(self) -> None:
        checks = [self._check(checkable, endpoint) for checkable, endpoint in self._list_due()]
        await asyncio.gather(*checks)

    def _list_due(self) -> Iterator[tuple[CheckableAccount, CheckEndpoint]]:
        for checkable in list_checkable_accounts(self._context.catalogue()):
            endpoint = checkable.seller.adapter.check if checkable.seller else None
            if endpoint and checkable.account.api_key and self._is_due(checkable.account.name):
                yield checkable, endpoint

    def _is_due(self, account: str) -> bool:
        """Returns whether no replica has checked the account lately. Replicas wait for those before them, so that one
        of them does it."""
        health, timing, now = self._context.health, self._context.timing.maintenance, self._context.wall_clock()
        check = health.get_account_check(account)
        is_refused = health.get_account_refusal(account, now) is not Refusal.NONE
        interval = timing.refused_account_interval_seconds if is_refused else timing.account_interval_seconds
        interval += health.replica_position * timing.account_poll_seconds
        return (check is None or now - check.checked_at >= interval) and now - self._sent_at.get(
            account, -interval
        ) >= min(interval, timing.refused_account_interval_seconds)

    async def _check(self, checkable: CheckableAccount, endpoint: CheckEndpoint) -> None:
        context, account = self._context, checkable.account
        if checkable.seller is None:
            return
        sent_at = self._sent_at[account.name] = context.wall_clock()
        options = CallOptions(timeout_seconds=context.timing.orders.query_timeout_seconds)
        answer = await context.seller_client.send(endpoint.build_call(None), checkable.seller, options)
        status = answer if isinstance(answer, NoAnswer) else endpoint.read_answer(answer)
        check = interpret_status(status, checkable.dearest_price, sent_at)
        # A result of a former key or address says nothing about the new one.
        if check is not None and context.catalogue().accounts.get(account.name) == account:
            self._record(account.name, check)

    def _record(self, account: str, check: AccountCheck) -> None:
        health, now = self._context.health, self._context.wall_clock()
        refusal = health.get_account_refusal(account, now)
        health.record_check(account, check, now)
        if refusal is not Refusal.NONE and health.get_account_refusal(account, now) is Refusal.NONE:
            fault = FAULTS_BY_REFUSAL[refusal]
            self._context.emit(AccountRestored(account=account, fault=fault, balance=check.balance))


def get_recent_balance(context: EngineContext, account: str) -> int | None:
    """Returns the balance in micro-USD; None if the seller does not show it, or has not for some time."""
    check = context.health.get_account_check(account)
    max_age = context.timing.maintenance.balance_max_age_seconds
    return check.balance if check and context.wall_clock() - check.checked_at <= max_age else None


def interpret_status(status: AccountStatus | NoAnswer, dearest_price: int, sent_at: float) -> AccountCheck | None:
    """Returns what the answer to a check says; None if it says nothing."""
    if isinstance(status, NoAnswer):
        outcome = OUTCOMES_BY_FAULT.get(status.fault.kind)
        return None if outcome is None else AccountCheck(max(0.0, sent_at), outcome)
    is_low = status.balance is not None and status.balance < max(1, dearest_price)
    outcome = CheckOutcome.LOW_CREDIT if is_low else CheckOutcome.VALID
    return AccountCheck(max(0.0, sent_at), outcome, status.balance)
