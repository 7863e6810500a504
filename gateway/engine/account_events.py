"""The events of accounts that a seller refuses, and what an operator can do about it."""

from gateway.catalogue import Seller
from gateway.engine.engine_context import EngineContext
from gateway.events import Event
from gateway.health.account_check import FAULTS_BY_REFUSAL
from gateway.health.circuit_breaker import Refusal
from providers.faults import Fault, FaultKind

REMEDIES = {
    Refusal.NO_CREDIT: "Add credit at the seller. Orders go there again when a free check finds enough of it.",
    Refusal.INVALID_KEY: "Replace the key of this account in accounts.yaml, or allow it again at the seller. Orders go "
    "there again when a free check accepts it.",
}


class AccountRefused(Event, frozen=True, kw_only=True):
    """A seller answered 401 or 402 for an account. No order goes there until a free check of the account passes.

    `remedy`: what to do.
    """

    account: str
    seller: str
    fault: FaultKind
    remedy: str


class AccountRestored(Event, frozen=True, kw_only=True):
    """A check of a refused account passed: orders go there again. `fault`: why it was refused. `balance`: micro-USD, if
    the seller shows it."""

    account: str
    fault: FaultKind
    balance: int | None


def record_refusal(context: EngineContext, seller: Seller, fault: Fault) -> None:
    """Records that the seller refused the account when inputs were sent for an order."""
    account, now = seller.account.name, context.wall_clock()
    previous = context.health.get_account_refusal(account, now)
    context.health.record_refusal(account, fault.kind, now)
    emit_if_newly_refused(context, account, seller.name, previous)


def emit_if_newly_refused(context: EngineContext, account: str, seller: str, previous: Refusal) -> None:
    """Emits that the seller refuses the account, unless it did so before."""
    refusal = context.health.get_account_refusal(account, context.wall_clock())
    if refusal is not Refusal.NONE and previous is Refusal.NONE:
        fault, remedy = FAULTS_BY_REFUSAL[refusal], REMEDIES[refusal]
        context.emit(AccountRefused(account=account, seller=seller, fault=fault, remedy=remedy))
