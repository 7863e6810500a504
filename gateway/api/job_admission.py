"""Decides whether a principal may create a job now: by the policies of its API key, and by the rate limits."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from gateway.access.rate_limiter import Dimension, LimitedOwner, LimitStatus, RateLimitReached
from gateway.api.api_context import ApiContext
from gateway.api.api_errors import ApiError
from gateway.events import RateLimitExceeded

LIMIT_NAMES: dict[Dimension, str] = {
    "requests": "request{s} per minute",
    "images": "image{s} per minute",
    "jobs": "concurrent job{s}",
}


@contextmanager
def admit_job(context: ApiContext, state: dict[str, Any], policy: str | None, images: int) -> Iterator[None]:
    """Counts a new job against the rate limits, and reserves its place among the concurrent jobs while it is created.

    Raises ApiError if the principal may not request the policy (400), or exceeds a limit (429).
    """
    require_allowed_policy(state["principal"].policies, policy)
    owners: tuple[LimitedOwner, ...] = state["limited_owners"]
    if not owners:
        yield
        return
    try:
        context.rate_limiter.admit(owners, images)
    except RateLimitReached as reached:
        context.engine.context.emit(
            RateLimitExceeded(
                team=state["team"], owner=reached.status.owner.partition(":")[0], limit=reached.status.dimension
            )
        )
        raise _rate_limit_error(reached, images) from None
    try:
        yield
    finally:
        context.rate_limiter.release(owners)


def require_allowed_policy(allowed_policies: Collection[str] | None, policy: str | None) -> None:
    """Raises ApiError if the API key of a request or of a batch may not request the policy; None allows all of its
    team's."""
    if policy is None or allowed_policies is None or policy in allowed_policies:
        return
    advice = (
        f"Omit it, or use one of: {', '.join(allowed_policies)}" if allowed_policies else "Omit it: it may request none"
    )
    message = f"This API key may not request policy '{policy[:60]}'. {advice}."
    raise ApiError(400, "invalid_value", message, param="policy")


def _rate_limit_error(reached: RateLimitReached, images: int) -> ApiError:
    status = reached.status
    unit = LIMIT_NAMES[status.dimension].format(s="" if status.limit == 1 else "s")
    limit = f"{status.limit} {unit} for {_describe_owner(status)}"
    if not reached.can_succeed:
        message = f"Invalid value for 'n': {images} images exceed the limit of {limit}. Request fewer images."
        return ApiError(400, "invalid_value", message, param="n")
    wait = f"{reached.retry_after} second{'s' if reached.retry_after > 1 else ''}"
    message = f"Rate limit reached: {limit}. Retry in {wait}."
    headers = {"x-should-retry": "true"}
    return ApiError(429, "rate_limit_exceeded", message, retry_after=reached.retry_after, headers=headers)


def _describe_owner(status: LimitStatus) -> str:
    return "this API key" if status.owner.startswith("key:") else "all keys of your team"
