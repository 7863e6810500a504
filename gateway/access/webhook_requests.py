"""What admins send and get of the targets of webhooks: by the admin API as JSON, and by the command line."""

import hashlib
from base64 import b32encode
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from gateway.access.key_administration import InvalidKeyOption
from gateway.access.key_requests import DEFAULT_OVERLAP
from gateway.config.value_types import TargetName, WebhookUrl
from gateway.config.webhook_schema import JOB_EVENTS, PayloadKind, WebhookEvents, WebhookTargetConfig
from gateway.store.webhook_targets import StoredTarget

MAX_DESCRIPTION_LENGTH = 200
CONFIGURED, STORED = "teams.yaml", "store"
TARGET_PREFIX = "target_"
_ID_BYTES = 10


class AddWebhookTargetRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new target. Without a `name`, it gets one. `own_secret`: it is signed with a secret of its own, even if its
    team has secrets in `teams.yaml`."""

    team: str
    url: Annotated[str, Meta(description="The https URL to call. Plain http needs `private`.")]
    name: Annotated[str | None, Meta(description="1 to 32 lower-case letters, digits or _-.")] = None
    events: WebhookEvents = JOB_EVENTS
    payload: PayloadKind = "thin"
    private: Annotated[bool, Meta(description="The URL may lead into a private network.")] = False
    enabled: bool = True
    description: str = ""
    own_secret: bool = False


class ChangeWebhookTargetRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The changes of a target. Missing fields, and those that are null, do not change."""

    url: str | None = None
    events: WebhookEvents | None = None
    payload: PayloadKind | None = None
    private: bool | None = None
    enabled: bool | None = None
    description: str | None = None

    def apply_to(self, target: StoredTarget) -> StoredTarget:
        """Returns the changed target. Raises InvalidKeyOption."""
        changes = {
            "url": self.url,
            "events": self.events and tuple(dict.fromkeys(self.events)),
            "payload": self.payload,
            "is_private": self.private,
            "is_enabled": self.enabled,
            "description": None if self.description is None else self.description.strip(),
        }
        return check_target(replace(target, **{name: value for name, value in changes.items() if value is not None}))


class RotateSecretRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`overlap`: how long webhooks are also signed with the old secret, like 24h; 0 to end it at once."""

    overlap: str = DEFAULT_OVERLAP


class ListedTarget(Struct, frozen=True, kw_only=True):
    """A target of a team. `stored`: None for one of the configuration. `has_team_secrets`: its team has secrets in the
    configuration."""

    team: str
    name: str
    config: WebhookTargetConfig
    stored: StoredTarget | None = None
    has_team_secrets: bool = False

    @property
    def id(self) -> str:
        """Identifies the target. It follows from its team and its name."""
        digest = hashlib.blake2b(
            f"{self.team}\0{self.name}".encode(), digest_size=_ID_BYTES, person=b"igw.target"
        ).digest()
        return TARGET_PREFIX + b32encode(digest).decode().lower()

    @property
    def is_enabled(self) -> bool:
        return self.stored is None or self.stored.is_enabled


class CreatedSecret(Struct, frozen=True):
    """A target, and its new secret, which is returned once. None if it is signed with the secrets of its team."""

    target: ListedTarget
    secret: str | None

    def __repr__(self) -> str:
        return f"CreatedSecret({self.target.team!r}, {self.target.name!r}, …)"


def check_target(target: StoredTarget) -> StoredTarget:
    """Checks a target as the configuration does. Raises InvalidKeyOption."""
    for option, text_type, text in (("name", TargetName, target.name), ("url", WebhookUrl, target.url)):
        try:
            text_type.parse(text)
        except ValueError as error:
            raise InvalidKeyOption(option, str(error)) from None
    if reason := target.to_config().check_consistency():
        raise InvalidKeyOption("url", reason)
    if not target.description.isprintable() or len(target.description) > MAX_DESCRIPTION_LENGTH:
        raise InvalidKeyOption("description", f"at most {MAX_DESCRIPTION_LENGTH} printable characters")
    return target


def serialize_target(target: ListedTarget, now: float) -> dict[str, Any]:
    """Serializes a target, without its secrets."""
    stored, config = target.stored, target.config
    secrets = [secret for secret in stored.secrets if secret.is_valid(now)] if stored else []
    return {
        "object": "webhook_target",
        "id": target.id,
        "team": target.team,
        "name": target.name,
        "origin": STORED if stored else CONFIGURED,
        "url": str(config.url),
        "events": list(config.events),
        "payload": config.payload,
        "private": config.private,
        "enabled": target.is_enabled,
        "description": stored.description if stored else "",
        "signed_with": "own_secrets" if secrets else "team_secrets" if target.has_team_secrets else None,
        "secrets": [
            {
                "created_at": int(secret.created_at),
                "expires_at": None if secret.expires_at is None else int(secret.expires_at),
            }
            for secret in secrets
        ],
        "created_at": int(stored.created_at) if stored else None,
    }


def describe_target(target: StoredTarget) -> dict[str, Any]:
    """Describes a target for an event of admins: without its secrets, and of the URL only the host."""
    config = target.to_config()
    return {
        "target": target.name,
        "host": config.url.host,
        "events": list(target.events),
        "payload": target.payload,
        "private": target.is_private or None,
        "disabled": not target.is_enabled or None,
        "own_secret": bool(target.secrets) or None,
        "description": target.description,
    }
