"""How many orders may be extra ones."""

import pytest

from gateway.upstream.limits import OrderBudget


def extra(budget: OrderBudget, now: float) -> int:
    added = 0
    while budget.may_add(now):
        budget.added(now)
        added += 1
    return added


@pytest.mark.parametrize(("orders", "allowed"), [(0, 3), (30, 3), (40, 4), (1_000, 100)])
def test_one_order_in_ten_may_be_an_extra_one_and_three_always(orders: int, allowed: int) -> None:
    budget = OrderBudget()
    for number in range(orders):
        budget.ordered(number * 59 / max(orders, 1))
    assert extra(budget, 59) == allowed
    assert not budget.may_add(59)


def test_the_budget_is_that_of_the_last_minute() -> None:
    budget = OrderBudget()
    for _ in range(100):
        budget.ordered(0)
    assert extra(budget, 30) == 10
    assert extra(budget, 61) == 0, "the orders are gone, what was added is not"
    assert extra(budget, 91) == 3
