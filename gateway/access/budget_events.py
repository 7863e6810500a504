"""The events of budgets that admins and the task of budgets emit."""

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
