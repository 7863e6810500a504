"""The context of the doctor's checks: settings, configuration, and the gateway to examine."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import parse_qsl

from msgspec import Struct, field

from gateway.catalogue import Catalogue
from gateway.config.moderation_schema import HOOK_NAMES, ModerationConfig
from gateway.config.schema import Config, GatewayFile
from gateway.config.value_types import SecretRef
from gateway.settings import Settings
from gateway.store.inspection import ClockSample

WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104
# The part of a check's time that one of its requests may take.
REQUEST_SHARE = 0.4


class DoctorContext(Struct, kw_only=True):
    """`catalogue`: None if the configuration is invalid. `gateway_url`: of the gateway on this machine, if it runs.

    `clock_samples`: clocks of other machines that the checks saw.
    """

    settings: Settings
    config: Config | None
    catalogue: Catalogue | None
    gateway_url: str
    timeout_seconds: float
    environ: Mapping[str, str]
    known_secrets: frozenset[str] = frozenset()
    wall_clock: Callable[[], float] = time.time
    clock_samples: list[ClockSample] = field(default_factory=list)

    @property
    def request_timeout_seconds(self) -> float:
        return self.timeout_seconds * REQUEST_SHARE

    @property
    def gateway_file(self) -> GatewayFile:
        return self.config.gateway if self.config else GatewayFile()

    def iterate_secret_refs(self) -> Iterator[SecretRef]:
        """Yields each reference of the configuration once: keys of accounts, teams and admins, and other secrets."""
        yield from dict.fromkeys(_iterate_refs(self.config)) if self.config else ()

    def iterate_secrets(self) -> Iterator[str]:
        """Yields all secrets that are known, so that they can be kept out of the output."""
        for reference in self.iterate_secret_refs():
            if secret := reference.resolve(self.environ):
                yield secret.reveal()
        yield from (secret.decode(errors="replace") for secret in self.settings.secrets)
        yield from _list_passwords((self.settings.redis_url or "", self.settings.assets or ""))


def _iterate_refs(config: Config) -> Iterator[SecretRef]:
    for account in config.accounts.accounts.values():
        yield account.key
        yield from account.callback_secrets
        if isinstance(account.proxy, SecretRef):
            yield account.proxy
    for team in config.teams.teams.values():
        yield from team.keys
        yield from team.webhooks.secrets
        yield from _iterate_hook_refs(team.moderate)
    yield from config.gateway.admin.keys
    yield from _iterate_hook_refs(config.gateway.moderate)


def _iterate_hook_refs(config: ModerationConfig) -> Iterator[SecretRef]:
    for name in HOOK_NAMES:
        if hook := config.get_hook(name):
            yield from hook.secrets


def _list_passwords(urls: Iterable[str]) -> list[str]:
    """Lists what stands between `//` and `@` in URLs, the password alone, and that of Sentinels."""
    urls = tuple(urls)
    credentials = [url.partition("://")[2].rpartition("@")[0] for url in urls]
    sentinel_passwords = [dict(parse_qsl(url.partition("?")[2])).get("sentinel_password", "") for url in urls]
    return [*sentinel_passwords, *(text for pair in credentials for text in (pair, pair.partition(":")[2]))]


def get_local_url(settings: Settings) -> str:
    """Returns the URL at which a gateway with these settings is reached from this machine."""
    host = WILDCARD_HOSTS.get(settings.host, f"[{settings.host}]" if ":" in settings.host else settings.host)
    return f"http://{host}:{settings.port}"
