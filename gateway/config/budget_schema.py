"""The budgets of a team, and of its API keys in teams.yaml."""

from typing import Annotated, ClassVar

from msgspec import Meta

from gateway.config.schema_base import ConfigStruct, option_help
from gateway.config.value_types import Usd
from gateway.jobs.budgets import BudgetLimits

Percent = Annotated[int, Meta(ge=1, le=100)]


class KeyBudgetConfig(ConfigStruct, frozen=True, kw_only=True):
    """Budget of an API key in USD, in any of four windows (UTC). Amounts held for running jobs count."""

    MISPLACED_OPTIONS: ClassVar[dict[str, str]] = {
        "thresholds": "Thresholds of a team hold for its keys, too: write them in its 'budget'"
    }

    day: Annotated[Usd | None, option_help("Maximum USD per day (UTC). Default no limit.")] = None
    week: Annotated[Usd | None, option_help("Maximum USD per week, Monday to Sunday (UTC). Default no limit.")] = None
    month: Annotated[Usd | None, option_help("Maximum USD per month (UTC). Default no limit.")] = None
    lifetime: Annotated[Usd | None, option_help("Maximum USD of all time. Default no limit.")] = None

    def to_limits(self) -> BudgetLimits:
        return BudgetLimits(
            day=None if self.day is None else int(self.day),
            week=None if self.week is None else int(self.week),
            month=None if self.month is None else int(self.month),
            lifetime=None if self.lifetime is None else int(self.lifetime),
        )


class BudgetConfig(KeyBudgetConfig, frozen=True, kw_only=True):
    """Budget of a team in USD, in any of four windows (UTC). Amounts held for running jobs count."""

    thresholds: Annotated[
        tuple[Percent, ...],
        option_help(
            "Percent of each limit of the team and of its API keys. Reaching one is an event, a metric, and a "
            "webhook for targets with budget.threshold_reached. Default 50, 80, 100."
        ),
    ] = (50, 80, 100)

    def check_consistency(self) -> str | None:
        is_repeated = len(set(self.thresholds)) < len(self.thresholds)
        return "thresholds has the same number twice" if is_repeated else None
