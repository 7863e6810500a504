"""The balance of a budget: the sum of those of its days or months."""

from gateway.jobs.budgets import BudgetWindow, split_owner
from gateway.store.base import Store
from gateway.store.ledger_totals import BudgetBalance, sum_balances


async def load_balance(store: Store, owner: str, window: BudgetWindow) -> BudgetBalance:
    team, key_id = split_owner(owner)
    return sum_balances((await store.load_balances(team, *window.parts, key_id=key_id)).values())
