"""The documentation of the routes of accounts, by the name of the handler."""

from gateway.api.accounts.account_types import AccountListBody
from gateway.api.reference.route_documentation import ResponseDocumentation, RouteDocumentation

ACCOUNT_ROUTE_DOCUMENTATION = {
    "list_accounts": RouteDocumentation(
        tag="Administration",
        summary="List the accounts at sellers",
        description="Whether a seller refuses an account, and the balance, as free queries of the seller showed it. "
        "Each account is asked every five minutes, and every 15 seconds while it is refused.",
        responses={200: ResponseDocumentation("The accounts.", AccountListBody)},
        errors=("unknown_parameter",),
    ),
}
