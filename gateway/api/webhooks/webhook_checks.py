"""Checks the webhook URLs of jobs. Where a name leads is checked again at each connection."""

from gateway.api.api_context import ApiContext
from gateway.api.api_errors import ApiError
from gateway.upstream.address_guard import is_public_host
from gateway.upstream.request_builder import BadUrl, validate_external_url


def require_valid_webhook(url: str | None) -> None:
    """Raises ApiError unless this is None, or an https URL of a public host."""
    if url is None:
        return
    try:
        is_valid = is_public_host(validate_external_url(url, private=False).host)
    except BadUrl:
        is_valid = False
    if not is_valid:
        message = "Invalid webhook: must be an https URL of a public host, on port 443, without a user name."
        raise ApiError(400, "invalid_value", message, param="webhook")


def require_signing_secret(context: ApiContext, team: str, param: str | None = None, target: str = "") -> None:
    """Raises ApiError if there is no secret that could sign webhooks: of the target, otherwise of the team."""
    catalogue = context.catalogue()
    found = catalogue.get_webhook_targets(team).get(target)
    if not (found.secrets if found else catalogue.webhook_secrets.get(team)):
        message = "Your team has no signing secret for webhooks. Ask your platform team for one, or omit the webhook."
        raise ApiError(400, "webhooks_not_configured", message, param=param)
