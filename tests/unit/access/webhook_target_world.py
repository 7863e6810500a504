"""The administration of targets of webhooks, on the store of tests."""

from random import Random
from typing import Any

from gateway.access.key_administration import Admin, KeyAdministration
from gateway.access.key_tokens import TokenDigester
from gateway.access.webhook_administration import WebhookAdministration
from gateway.access.webhook_requests import (
    AddWebhookTargetRequest,
    ChangeWebhookTargetRequest,
    CreatedSecret,
    ListedTarget,
)
from gateway.catalogue import Catalogue, CatalogueInForce
from gateway.config.schema import PoliciesFile, ReloadConfig, TeamConfig
from gateway.config.value_types import Secret, SecretRef, TargetName, WebhookUrl
from gateway.config.webhook_schema import WebhooksConfig, WebhookTargetConfig
from gateway.events import Event
from gateway.webhooks.stored_targets import StoredTargets
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_store import MemoryState, MemoryStore
from tests.store.job_factory import NOON
from tests.unit.access.key_fixtures import SECRET

ADMIN = Admin("cli:ann", "host")
DAY = 86_400.0
URL = "https://orders.example.com/images?token=t"
TEAM_SECRET = Secret("whsec_c2VjcmV0IG9mIDI0IGJ5dGVzIG9yIG1vcmU=")
CONFIGURED = WebhooksConfig(
    secrets=(SecretRef("env:SECRET"),),
    targets={TargetName("alarm"): WebhookTargetConfig(url=WebhookUrl("https://alarm.example.com/"))},
)
CATALOGUE = Catalogue(
    hash="",
    models={},
    aliases={},
    accounts={},
    sellers={},
    offers={},
    policies=PoliciesFile(policies={}, default=""),
    teams={"acme": TeamConfig(webhooks=CONFIGURED), "free": TeamConfig()},
    reload=ReloadConfig(),
    webhook_secrets={"acme": (TEAM_SECRET,)},
)


class TargetWorld:
    """The administration of one store, and another replica that uses its targets."""

    def __init__(self, interceptor: Any = None) -> None:
        self.clock, self.state, self.catalogue = ManualClock(NOON), MemoryState(), CatalogueInForce(CATALOGUE)
        self.emitted: list[Event] = []
        self.store = MemoryStore(self.state, clock=self.clock, interceptor=interceptor)
        self.webhooks = self.make_administration(self.store)
        self.replica = StoredTargets(self.store, self.catalogue, self.clock, self.emitted.append)

    def make_administration(self, store: MemoryStore) -> WebhookAdministration:
        draw_bytes = Random(7).randbytes  # noqa: S311
        keys = KeyAdministration(store.api_keys, TokenDigester((SECRET,)), self.catalogue.get, self.clock, draw_bytes)
        return WebhookAdministration(
            store=store,
            keys=keys,
            catalogue=self.catalogue.get,
            wall_clock=self.clock,
            draw_bytes=draw_bytes,
            emit=self.emitted.append,
        )

    async def add(self, **changes: Any) -> CreatedSecret:
        fields = {"team": "acme", "name": "orders", "url": URL}
        return await self.webhooks.add_target(AddWebhookTargetRequest(**{**fields, **changes}), ADMIN)

    async def change(self, target: ListedTarget, **changes: Any) -> ListedTarget:
        return await self.webhooks.change_target(target.id, ChangeWebhookTargetRequest(**changes), ADMIN)

    async def list_names(self, team: str | None = None) -> list[tuple[str, str]]:
        return [(target.team, target.name) for target in await self.webhooks.list_targets(team)]

    async def list_events(self) -> list[tuple[str, dict[str, Any]]]:
        """Lists the actions of admins with their details, the oldest first."""
        page = await self.webhooks.keys.list_events(100, None)
        return [(event.action, event.details) for event in page.events][::-1]

    async def list_secrets(self, name: str = "orders", team: str = "acme") -> list[str]:
        """Lists the secrets with which the other replica signs after its next refresh."""
        await self.replica.refresh()
        return [secret.reveal() for secret in self.catalogue.get().get_webhook_targets(team)[name].secrets]


async def open_target_world(interceptor: Any = None) -> TargetWorld:
    world = TargetWorld(interceptor)
    await world.store.open()
    return world
