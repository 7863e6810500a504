"""How many orders may be retries."""

import pytest

from gateway.health.retry_budget import RetryBudget


def use_up_retries(budget: RetryBudget, now: float) -> int:
    retries = 0
    while budget.can_retry(now):
        budget.record_retry(now)
        retries += 1
    return retries


@pytest.mark.parametrize(("orders", "allowed"), [(0, 3), (30, 3), (40, 4), (1_000, 100)])
def test_one_order_in_ten_and_at_least_three_may_be_retries(orders: int, allowed: int) -> None:
    budget = RetryBudget()
    for number in range(orders):
        budget.record_first_order(number * 59 / max(orders, 1))
    assert use_up_retries(budget, 59) == allowed
    assert not budget.can_retry(59)


def test_budget_counts_last_minute_only() -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget.record_first_order(0)
    assert use_up_retries(budget, 30) == 10
    assert use_up_retries(budget, 61) == 0, "the first orders are out of the window, the retries are not"
    assert use_up_retries(budget, 91) == 3
