"""The types of the JSON bodies of the admin API."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from gateway.api.response_types import OptionalText, OptionalUnixTime, PageBody, UnixTime
from gateway.store.api_keys import Scope


class LimitsBody(TypedDict):
    """Rate limits; absent: no limit."""

    requests_per_minute: NotRequired[int | None]
    images_per_minute: NotRequired[int | None]
    concurrent_jobs: NotRequired[int | None]


class ApiKeyBody(TypedDict):
    """An API key, without its secret."""

    object: Literal["api_key"]
    id: str
    name: str
    team: OptionalText
    status: Literal["active", "expired", "revoked"]
    scopes: list[Scope]
    policies: Annotated[list[str] | None, Meta(description="The policies that it may request; null: all of its team.")]
    limits: LimitsBody
    budget: Annotated[dict[str, float], Meta(description="USD by window: day, week, month, lifetime.")]
    created_at: UnixTime
    expires_at: Annotated[int | None, Meta(description="When it stops to work; null: it does not expire.")]
    revoked_at: OptionalUnixTime
    last_used_at: OptionalUnixTime
    replaces: Annotated[str | None, Meta(description="The id of the key that it replaces.")]


class CreatedKeyBody(ApiKeyBody):
    """A new API key. Only this response contains the key itself."""

    key: str


class AdminEventBody(TypedDict):
    """One action of an admin."""

    object: Literal["admin_event"]
    id: str
    created_at: UnixTime
    action: str
    actor: Annotated[str, Meta(description="The id of the admin's key, or the user of the command line.")]
    source: Annotated[str, Meta(description="The address of the client, or the host of the command line.")]
    key_id: OptionalText
    team: OptionalText
    details: dict[str, Any]


class BudgetWindowBody(TypedDict):
    """USD of a window. `held`: what running jobs may still cost."""

    limit: float | None
    spent: float
    held: float


class BudgetBody(TypedDict):
    """The budget of a team."""

    day: BudgetWindowBody
    week: BudgetWindowBody
    month: BudgetWindowBody
    lifetime: BudgetWindowBody


class KeyCountBody(TypedDict):
    """The number of API keys that work: those of the configuration in force, and the active ones of the store."""

    configured: int
    active: int


class TeamBody(TypedDict):
    """A team with its limits and what it has spent."""

    object: Literal["team"]
    name: str
    policies: list[str]
    limits: LimitsBody
    max_price: float | None
    max_cost: float | None
    budget: BudgetBody
    keys: KeyCountBody


class ApiKeyListBody(PageBody):
    """API keys, the newest first."""

    data: list[ApiKeyBody]


class AdminEventListBody(PageBody):
    """Actions of admins, the newest first."""

    data: list[AdminEventBody]


class TeamListBody(PageBody):
    """The configured teams."""

    data: list[TeamBody]
