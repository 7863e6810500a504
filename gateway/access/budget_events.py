"""The events of budgets: overrides of admins, and soft thresholds."""

from gateway.events import Event


class BudgetOverrideChanged(Event, frozen=True, kw_only=True):
    """An override of a budget was set, was ended by an admin, or has expired.

    `action`: that of the event of admins. `key`: the id of the API key; None for the budget of the team. `configured`,
    `limit`: in micro-USD, without and with the override. `until`: when it ends, in Unix seconds. `actor`: the id of the
    admin's key, the user of the command line, or `gateway` for one that has expired.
    """

    action: str
    override: str
    team: str
    key: str | None
    window: str
    configured: int
    limit: int
    until: float
    actor: str
    source: str


class BudgetThresholdReached(Event, frozen=True, kw_only=True):
    """A budget has spent a soft threshold of its limit. Once for each budget, window and threshold, on one replica.

    `key`: the id of the API key; None for the budget of the team. `window`: its kind; `period`: which one, like
    2026-11-28. `threshold`: in percent. `limit`, `spent`: in micro-USD.
    """

    at: float
    team: str
    key: str | None
    window: str
    period: str
    threshold: int
    limit: int
    spent: int
