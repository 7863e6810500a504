"""Schema of `moderate`: servers of the operator that may refuse requests and images."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gateway.config.schema_base import ConfigStruct, option_help
from gateway.config.value_types import SecretRef, WebhookUrl
from gateway.config.webhook_schema import PUBLIC_URL_CONSTRAINTS, find_url_problem

HookName = Literal["before", "after"]
HOOK_NAMES: tuple[HookName, ...] = ("before", "after")


class ModerationHookConfig(ConfigStruct, frozen=True, kw_only=True):
    """A server that is asked, and what happens if it does not answer."""

    EXTRA_CONSTRAINTS: ClassVar[dict[str, Any]] = PUBLIC_URL_CONSTRAINTS

    url: Annotated[WebhookUrl, option_help("The https URL to ask. Plain http needs private: true.")]
    timeout_seconds: Annotated[
        float, Meta(ge=0.1, le=30, description="Seconds until an answer must be complete. Default 5.")
    ] = 5.0
    fail: Annotated[
        Literal["open", "closed"],
        option_help("Without a valid answer: 'open' allows the request or image, 'closed' refuses it. Default closed."),
    ] = "closed"
    private: Annotated[
        bool, option_help("Whether the URL may lead to an address in a private network, by http too. Default false.")
    ] = False
    secrets: Annotated[
        tuple[SecretRef, ...],
        option_help(
            "References to signing secrets (env:NAME or file:/path), each whsec_ and base64 of 24 to 64 bytes. Every "
            "question is signed with all of them: use two while one replaces the other. Default none: not signed."
        ),
    ] = ()

    def check_consistency(self) -> str | None:
        return find_url_problem(self.url, self.private)


HookSetting = ModerationHookConfig | Literal["none"] | None
NO_HOOK: Literal["none"] = "none"


class ModerationConfig(ConfigStruct, frozen=True, kw_only=True):
    """The hooks of all teams, or of one team, each of which replaces that of all teams: "none" by no hook."""

    before: Annotated[
        HookSetting,
        option_help("Asked before a request becomes a job. Default null, 'none'; for a team, that of gateway.yaml."),
    ] = None
    after: Annotated[
        HookSetting,
        option_help(
            "Asked with each image before it is stored. Default null, 'none'; for a team, that of gateway.yaml."
        ),
    ] = None

    def get_setting(self, name: HookName) -> HookSetting:
        return self.before if name == "before" else self.after

    def get_hook(self, name: HookName) -> ModerationHookConfig | None:
        setting = self.get_setting(name)
        return setting if isinstance(setting, ModerationHookConfig) else None
