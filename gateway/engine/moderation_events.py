"""The event of moderation hooks."""

from gateway.config.moderation_schema import HookName
from gateway.events import Event


class ModerationAnswered(Event, frozen=True, kw_only=True):
    """A moderation hook was asked. `job`: None before there is one. `outcome`: `allowed`, `refused`, or why there is no
    valid answer; `status`: of the response. `is_allowed`: whether the request or image may go on. The line is at level
    debug if the hook allows it, and limited if there is no valid answer."""

    at: float
    hook: HookName
    team: str
    job: str | None
    outcome: str
    status: int | None
    seconds: float
    is_allowed: bool
