"""Schema of `webhooks` in teams.yaml: the signing secrets of a team, and the targets of its webhooks."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gateway.config.schema_base import ConfigStruct, option_help
from gateway.config.value_types import SecretRef, TargetName, WebhookUrl

WebhookEventName = Literal["job.completed", "job.failed", "job.cancelled", "job.expired", "budget.threshold_reached"]
JOB_EVENTS: tuple[WebhookEventName, ...] = ("job.completed", "job.failed", "job.cancelled", "job.expired")
BUDGET_THRESHOLD_EVENT: WebhookEventName = "budget.threshold_reached"
PayloadKind = Literal["thin", "full"]
# For a struct with a `url` and with `private`.
PUBLIC_URL_CONSTRAINTS: dict[str, Any] = {
    "if": {"not": {"properties": {"private": {"const": True}}, "required": ["private"]}},
    "then": {"properties": {"url": {"pattern": r"^https://([^/?:\[]+|\[[^\]]+\])(:443)?([/?]|$)"}}},
}


def find_url_problem(url: WebhookUrl, is_private: bool) -> str | None:
    """Returns the problem of a URL that does not look public and is not declared as private."""
    return None if is_private or url.is_public else "url must be https on port 443, unless private is true"


WebhookEvents = Annotated[tuple[WebhookEventName, ...], Meta(min_length=1)]


class WebhookTargetConfig(ConfigStruct, frozen=True, kw_only=True):
    """A URL to which the webhooks of all of the team's jobs are sent."""

    EXTRA_CONSTRAINTS: ClassVar[dict[str, Any]] = PUBLIC_URL_CONSTRAINTS

    url: Annotated[WebhookUrl, option_help("The https URL to call. Plain http needs private: true.")]
    events: Annotated[WebhookEvents, option_help("Events to send. Default the four ways in which a job can end.")] = (
        JOB_EVENTS
    )
    payload: Annotated[
        PayloadKind, option_help("'thin': the job's id and status; 'full': the job, as GET returns it. Default thin.")
    ] = "thin"
    private: Annotated[
        bool, option_help("Whether the URL may lead to an address in a private network, by http too. Default false.")
    ] = False

    def check_consistency(self) -> str | None:
        return find_url_problem(self.url, self.private)


class WebhooksConfig(ConfigStruct, frozen=True, kw_only=True):
    """How the team's webhooks are signed, what they contain, and their targets."""

    secrets: Annotated[
        tuple[SecretRef, ...],
        option_help(
            "References to signing secrets (env:NAME or file:/path), each whsec_ and base64 of 24 to 64 bytes. Every "
            "webhook is signed with all of them: use two while one replaces the other. Default none: no webhooks."
        ),
    ] = ()
    payload: Annotated[
        PayloadKind, option_help("Of the webhooks that jobs name themselves: 'thin' or 'full'. Default thin.")
    ] = "thin"
    targets: Annotated[
        dict[TargetName, WebhookTargetConfig],
        option_help("Targets of the webhooks of all jobs that are created from now on, by name. Default none."),
    ] = {}  # noqa: RUF012  a struct copies it

    def check_consistency(self) -> str | None:
        return "targets need secrets to sign their webhooks with" if self.targets and not self.secrets else None
