"""Decides whether a caller may create a job now: by the policies of its API key."""

from gateway.access.caller import Caller
from gateway.api.api_errors import ApiError


def require_allowed_policy(caller: Caller, policy: str | None) -> None:
    """Raises ApiError if the API key may not request the policy. Its team may be allowed more."""
    if policy is None or caller.policies is None or policy in caller.policies:
        return
    allowed = ", ".join(caller.policies) or "none"
    message = f"This API key may not request policy '{policy[:60]}'; it may request: {allowed}."
    raise ApiError(400, "invalid_value", message, param="policy")
