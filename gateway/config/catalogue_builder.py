"""Resolves loaded files into a catalogue: runs the checks across files, looks up secrets, expands prices into cells."""

from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from gateway.catalogue import Catalogue, ConfiguredKey, InputLimits, Model, Offer, Price, Seller, SellerAccount
from gateway.config.account_proxy import Proxy, ProxyRef
from gateway.config.budget_schema import KeyBudgetConfig
from gateway.config.cross_checks import find_problems
from gateway.config.loader import LoadedFiles, sort_problems
from gateway.config.model_schema import ModelConfig
from gateway.config.moderation_schema import HOOK_NAMES, ModerationConfig
from gateway.config.offer_schema import ANY_QUALITY, OfferConfig, PriceRow
from gateway.config.rule_reachability import find_unreachable_rules
from gateway.config.schema import DEFAULT_ADMIN_KEYS, AccountConfig, Config, GatewayFile
from gateway.config.signing_secrets import decode_signing_secret
from gateway.config.value_types import UNSENDABLE, Secret, SecretRef, sha256_hex
from gateway.config.yaml_nodes import Problem
from providers.adapter import Adapter
from providers.orders import Operation


class ResolvedConfig(Struct, frozen=True):
    """A catalogue, or the problems that prevent one. Warnings do not prevent it."""

    catalogue: Catalogue | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


SecretLookup = Callable[[SecretRef], Secret | None]
NO_API_KEY = "No account has an API key, so no image can be ordered. Set at least one key"


def secrets_from_env(environ: Mapping[str, str]) -> SecretLookup:
    """Looks secrets up in environment variables and files."""
    return lambda reference: reference.resolve(environ)


def placeholder_secrets(reference: SecretRef) -> Secret:
    """Returns a placeholder for each secret, for planning without secrets."""
    return reference.make_placeholder()


def find_admin_keys(config: GatewayFile, find_secret: SecretLookup) -> dict[str, ConfiguredKey]:
    """Finds the admin keys, by their hashes."""
    secrets = ((reference, find_secret(reference)) for reference in config.admin.keys)
    return {sha256_hex(secret.reveal()): ConfiguredKey(str(reference), None) for reference, secret in secrets if secret}


def resolve_files(loaded: LoadedFiles, secrets: SecretLookup, adapters: Mapping[str, Adapter]) -> ResolvedConfig:
    if loaded.config is None:
        return ResolvedConfig(None, loaded.problems, ())
    if problems := find_problems(loaded, loaded.config, adapters):
        return ResolvedConfig(None, problems, ())
    return _CatalogueBuilder(loaded, loaded.config, secrets, adapters).run()


class _CatalogueBuilder:
    """Builds the catalogue of a configuration that has passed all other checks. Only its secrets can still have
    problems."""

    def __init__(
        self, loaded: LoadedFiles, config: Config, secrets: SecretLookup, adapters: Mapping[str, Adapter]
    ) -> None:
        self.loaded, self.config, self.find_secret, self.adapters = loaded, config, secrets, adapters
        self.problems: list[Problem] = []
        self.warnings = list(find_unreachable_rules(loaded, config))

    def run(self) -> ResolvedConfig:
        accounts = {
            name: self._resolve_account(name, account) for name, account in self.config.accounts.accounts.items()
        }
        keys, webhook_secrets = self._resolve_keys(), self._resolve_webhook_secrets()
        moderation_secrets = self._resolve_moderation_secrets()
        if not any(account.api_key for account in accounts.values()):
            self._add_problem(NO_API_KEY, "accounts.yaml", "accounts")
        if self.problems:
            return ResolvedConfig(None, sort_problems(self.problems), tuple(self.warnings))
        catalogue = replace(
            self._build_catalogue(accounts, keys),
            webhook_secrets=webhook_secrets,
            moderation_secrets=moderation_secrets,
        )
        return ResolvedConfig(catalogue, (), tuple(self.warnings))

    def _build_catalogue(self, accounts: Mapping[str, SellerAccount], keys: Mapping[str, ConfiguredKey]) -> Catalogue:
        config = self.config
        models = config.models.models
        sellers = {
            name: Seller(name, accounts[file.account], self.adapters[file.adapter])
            for name, file in config.offers.items()
        }
        offers = [
            _build_offer(sellers[name], position, (model, models[model]), offer)
            for position, (name, file) in enumerate(config.offers.items())
            for model, offer in file.offers.items()
        ]
        return Catalogue(
            hash=config.hash,
            models={name: _build_model(name, model) for name, model in models.items()},
            aliases={alias: name for name, model in models.items() for alias in (*model.aliases, *model.dalle_aliases)},
            dalle_aliases=frozenset(alias for model in models.values() for alias in model.dalle_aliases),
            accounts=accounts,
            sellers=sellers,
            offers={name: tuple(offer for offer in offers if offer.model == name) for name in models},
            policies=config.policies,
            teams=config.teams.teams,
            reload=config.gateway.reload,
            gateway=config.gateway,
            configured_keys=keys,
        )

    def _add_problem(self, message: str, file: str, *path: str | int) -> None:
        self.problems.append(self.loaded.make_problem(message, file, path))

    def _add_warning(self, message: str, file: str, *path: str | int) -> None:
        self.warnings.append(self.loaded.make_problem(message, file, path))

    # --- keys of teams and admins

    def _resolve_keys(self) -> dict[str, ConfiguredKey]:
        """Maps key hashes to keys. A missing key is skipped with a warning, unless it is the default admin key."""
        keys: dict[str, ConfiguredKey] = {}
        for name, team in self.config.teams.teams.items():
            for index, reference in enumerate(team.keys):
                budget = team.key_budgets.get(reference, KeyBudgetConfig()).to_limits()
                key = ConfiguredKey(str(reference), name, budget)
                self._resolve_key(keys, key, "teams.yaml", "teams", name, "keys", index)
        admin_keys = self.config.gateway.admin.keys
        for index, reference in enumerate(admin_keys):
            if admin_keys != DEFAULT_ADMIN_KEYS or self.find_secret(reference):
                self._resolve_key(keys, ConfiguredKey(str(reference), None), "gateway.yaml", "admin", "keys", index)
        return keys

    def _resolve_key(self, keys: dict[str, ConfiguredKey], key: ConfiguredKey, file: str, *path: str | int) -> None:
        reference = SecretRef(key.id)
        if (secret := self.find_secret(reference)) is None:
            message = f"{reference} {reference.describe_absence()}: requests with this key are rejected"
            self._add_warning(message, file, *path)
        elif not secret.is_sendable:
            self._add_warning(f"{reference} {UNSENDABLE}: no request can have this key", file, *path)
        elif (other := keys.setdefault(sha256_hex(secret.reveal()), key)).team != key.team:
            self._add_problem(f"{reference} is also a key of team '{other.team}'", file, *path)
        elif other.budget != key.budget:
            self._add_problem(f"{reference} is the same key as {other.id}, with another budget", file, *path)

    # --- webhooks

    def _resolve_webhook_secrets(self) -> dict[str, tuple[Secret, ...]]:
        """Returns the signing secrets of each team that has one. A missing secret is skipped with a warning."""
        secrets = {
            name: tuple(
                secret
                for index, reference in enumerate(team.webhooks.secrets)
                if (secret := self._resolve_webhook_secret(reference, "teams", name, "webhooks", "secrets", index))
            )
            for name, team in self.config.teams.teams.items()
        }
        return {name: team_secrets for name, team_secrets in secrets.items() if team_secrets}

    def _resolve_webhook_secret(self, reference: SecretRef, *path: str | int) -> Secret | None:
        secret = self.find_secret(reference)
        if secret is None:
            message = f"{reference} {reference.describe_absence()}: webhooks are not signed with it"
            self._add_warning(message, "teams.yaml", *path)
        else:
            self._check_signing_secret(reference, secret, "teams.yaml", *path)
        return secret

    def _check_signing_secret(self, reference: SecretRef, secret: Secret, file: str, *path: str | int) -> None:
        if secret != reference.make_placeholder() and decode_signing_secret(secret) is None:
            self._add_problem(f"{reference} is not a signing secret: whsec_ and base64 of 24 to 64 bytes", file, *path)

    # --- moderation

    def _resolve_moderation_secrets(self) -> dict[SecretRef, Secret]:
        """Returns the signing secrets of all hooks. A missing one is a problem: a server that verifies signatures would
        reject every question."""
        secrets = self._resolve_hook_secrets(self.config.gateway.moderate, "gateway.yaml")
        for name, team in self.config.teams.teams.items():
            secrets |= self._resolve_hook_secrets(team.moderate, "teams.yaml", "teams", name)
        return secrets

    def _resolve_hook_secrets(self, config: ModerationConfig, file: str, *path: str) -> dict[SecretRef, Secret]:
        secrets: dict[SecretRef, Secret] = {}
        for name in HOOK_NAMES:
            hook = config.get_hook(name)
            for index, reference in enumerate(hook.secrets if hook else ()):
                location: tuple[str | int, ...] = (*path, "moderate", name, "secrets", index)
                if (secret := self.find_secret(reference)) is None:
                    message = f"{reference} {reference.describe_absence()}: questions to this hook cannot be signed"
                    self._add_problem(message, file, *location)
                else:
                    self._check_signing_secret(reference, secret, file, *location)
                    secrets[reference] = secret
        return secrets

    # --- accounts

    def _resolve_account(self, name: str, config: AccountConfig) -> SellerAccount:
        api_key = self.find_secret(config.key)
        if api_key is None or not api_key.is_sendable:
            reason = UNSENDABLE if api_key else config.key.describe_absence()
            message = f"{config.key} {reason}: the account is disabled"
            self._add_warning(message, "accounts.yaml", "accounts", name, "key")
            api_key = None
        proxy = self._resolve_proxy(name, config.proxy) if config.proxy else None
        if config.proxy and proxy is None:
            # Disabled, since requests must not bypass the configured proxy.
            api_key = None
        callback_secrets = [self.find_secret(reference) for reference in config.callback_secrets]
        for index, callback_secret in enumerate(callback_secrets):
            if callback_secret is None:
                reference = config.callback_secrets[index]
                message = f"{reference} {reference.describe_absence()}: callbacks signed with it are rejected"
                self._add_warning(message, "accounts.yaml", "accounts", name, "callback_secrets", index)
        return SellerAccount(
            name=name,
            base_url=config.base_url,
            api_key=api_key,
            replay_trusted=config.replay == "trusted",
            callback_secrets=tuple(callback_secret for callback_secret in callback_secrets if callback_secret),
            allows_private_addresses=config.private,
            limits=config.limits,
            proxy=proxy,
            region=config.region,
            low_balance=config.low_balance_usd,
        )

    def _resolve_proxy(self, name: str, reference: ProxyRef) -> Proxy | None:
        address = self.find_secret(reference)
        proxy = Proxy.parse(address) if address else None
        if proxy is None:
            reason = (
                f"does not contain an address like {reference.FULL_EXAMPLE}"
                if address
                else reference.describe_absence()
            )
            self._add_warning(
                f"{reference} {reason}: the account is disabled", "accounts.yaml", "accounts", name, "proxy"
            )
        return proxy


def _build_model(name: str, config: ModelConfig) -> Model:
    width, height = config.resolve_default_size()
    defaults, inputs = config.defaults, config.inputs
    return Model(
        name=name,
        width=width,
        height=height,
        quality=config.default_quality,
        output_format=defaults.output_format or config.formats[0],
        background=str(defaults.background or config.backgrounds[0]),
        qualities=tuple(map(str, config.qualities)),
        formats=config.formats,
        backgrounds=tuple(map(str, config.backgrounds)),
        size_law=config.sizes.build_law(),
        inputs=InputLimits(max_images=inputs.max_images, max_bytes=inputs.max_mib << 20, has_mask=inputs.mask),
        max_images=config.max_images,
    )


def _build_offer(seller: Seller, position: int, model: tuple[str, ModelConfig], config: OfferConfig) -> Offer:
    name, model_config = model
    return Offer(
        seller=seller,
        model=name,
        remote_model=config.model,
        images_per_order=config.images_per_order,
        selectable_qualities=frozenset(config.quality.selectable),
        assumed_quality=config.quality.assumes,
        size_options={
            operation: size_options
            for operation in Operation
            if (size_options := getattr(config, operation)) is not None
        },
        formats=frozenset(config.formats),
        unverified_note=config.unverified,
        supports_mask=config.mask,
        max_inputs=config.inputs,
        backgrounds=frozenset(config.backgrounds),
        quality_words=config.quality.words,
        prices={cell: _build_price(row) for row in config.prices for cell in row.list_cells(model_config)},
        expected_latency={
            str(quality): config.seconds[quality if quality in config.seconds else ANY_QUALITY]
            for quality in model_config.qualities
        },
        token_prices=config.tokens,
        position=position,
    )


def _build_price(row: PriceRow) -> Price:
    ceiling = row.price if row.ceiling is None else row.ceiling
    return Price(int(row.price), int(ceiling), row.source, str(row.date))
