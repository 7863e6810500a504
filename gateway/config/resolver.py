"""Resolves loaded files into a catalogue: looks up names, expands prices into cells, checks capabilities."""

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from gateway.catalogue import Catalogue, Model, Offer, Price, Seller, SellerAccount
from gateway.config import cross_checks, rule_reachability
from gateway.config.capability_checks import check_capabilities
from gateway.config.findings import Finding, to_problems
from gateway.config.loader import LoadedFiles
from gateway.config.offer_schema import ExpectedLatency, OfferConfig, PriceRow
from gateway.config.proxy import Proxy, ProxyRef
from gateway.config.schema import AccountConfig, Config, ModelConfig
from gateway.config.values import Secret, SecretRef, sha256_hex
from gateway.config.yaml_nodes import Problem
from providers.adapter import Adapter
from providers.image_sizes import SizeError, target_from_pixels
from providers.orders import Cell, Operation, Quality


class ResolvedConfig(Struct, frozen=True):
    """A catalogue, or the problems that prevent one. Warnings do not prevent it."""

    catalogue: Catalogue | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


SecretLookup = Callable[[SecretRef], Secret | None]
CELL_OPTIONS = ("operations", "resolutions", "qualities")
NO_API_KEY = "No account has an API key, so no image can be ordered. Set at least one key"


def secrets_from_env(environ: Mapping[str, str]) -> SecretLookup:
    """Looks secrets up in environment variables and files."""
    return lambda reference: reference.resolve(environ)


def placeholder_secrets(reference: SecretRef) -> Secret:
    """Returns a placeholder for each secret, for planning without secrets."""
    return reference.make_placeholder()


def resolve(loaded: LoadedFiles, secrets: SecretLookup, adapters: Mapping[str, Adapter]) -> ResolvedConfig:
    if loaded.config is None:
        return ResolvedConfig(None, loaded.problems, ())
    return _Resolver(loaded, loaded.config, secrets, adapters).run()


class _Resolver:
    def __init__(
        self, loaded: LoadedFiles, config: Config, secrets: SecretLookup, adapters: Mapping[str, Adapter]
    ) -> None:
        self.loaded, self.config, self.find_secret, self.adapters = loaded, config, secrets, adapters
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def run(self) -> ResolvedConfig:
        models = {name: self._resolve_model(name, model) for name, model in self.config.models.models.items()}
        accounts = {
            name: self._resolve_account(name, account)
            for name, account in self.config.accounts.accounts.items()
            if self.loaded.is_reliable("accounts.yaml", "accounts", name)
        }
        self._require_any_key(accounts)
        offers = [offer for seller in self.config.offers for offer in self._resolve_seller(seller, accounts)]
        self.problems += cross_checks.check_policies_and_teams(self.loaded, self.config)
        self.problems += rule_reachability.check_rule_reachability(self.loaded, self.config)
        keys = self._resolve_team_keys()
        if problems := [*self.loaded.problems, *self.problems]:
            problems.sort(key=lambda problem: (problem.location.file, problem.location.line))
            return ResolvedConfig(None, tuple(problems), tuple(self.warnings))
        catalogue = Catalogue(
            hash=self.config.hash,
            models={name: model for name, model in models.items() if model},
            aliases=self._collect_aliases(),
            dalle_aliases=frozenset(
                alias for model in self.config.models.models.values() for alias in model.dalle_aliases
            ),
            accounts=accounts,
            sellers={offer.seller.name: offer.seller for offer in offers},
            offers={name: tuple(offer for offer in offers if offer.model == name) for name in models},
            policies=self.config.policies,
            teams=self.config.teams.teams,
            reload=self.config.gateway.reload,
            gateway=self.config.gateway,
            teams_by_key_hash=keys,
        )
        return ResolvedConfig(catalogue, (), tuple(self.warnings))

    def _known_names(self, kind: str) -> Collection[str] | None:
        return self.loaded.known_names(kind)

    def _add_problem(self, message: str, file: str, *steps: str | int) -> None:
        self._add_finding(Finding(message, steps), file)

    def _add_finding(self, finding: Finding, file: str, *parent_path: str | int) -> None:
        self.problems += to_problems(self.loaded, file, [finding], *parent_path)

    def _add_warning(self, message: str, file: str, *steps: str | int) -> None:
        self.warnings.append(Problem(self.loaded.locate(file, *steps), message))

    # --- models

    def _resolve_model(self, name: str, config: ModelConfig) -> Model | None:
        if not self.loaded.is_reliable("models.yaml", "models", name):
            return None
        width, height = config.defaults.size.pixels
        try:
            target_from_pixels(width, height)
        except SizeError as error:
            self._add_problem(str(error), "models.yaml", "models", name, "defaults", "size")
            return None
        return Model(name, width, height, config.defaults.quality, config.defaults.output_format, config.max_images)

    def _collect_aliases(self) -> dict[str, str]:
        return {
            alias: name
            for name, model in self.config.models.models.items()
            for alias in (*model.aliases, *model.dalle_aliases)
        }

    # --- teams

    def _resolve_team_keys(self) -> dict[str, str]:
        """Maps key hashes to teams. A missing key is skipped with a warning."""
        keys: dict[str, str] = {}
        for name, team in self.config.teams.teams.items():
            for index, reference in enumerate(team.keys):
                if (secret := self.find_secret(reference)) is None:
                    message = f"{reference} {reference.describe_absence()}: requests with this key are rejected"
                    self._add_warning(message, "teams.yaml", "teams", name, "keys", index)
                elif (owner := keys.setdefault(sha256_hex(secret.reveal()), name)) != name:
                    message = f"{reference} is also a key of team '{owner}'"
                    self._add_problem(message, "teams.yaml", "teams", name, "keys", index)
        return keys

    # --- accounts

    def _resolve_account(self, name: str, config: AccountConfig) -> SellerAccount:
        api_key = self.find_secret(config.key)
        if api_key is None:
            message = f"{config.key} {config.key.describe_absence()}: the account is disabled"
            self._add_warning(message, "accounts.yaml", "accounts", name, "key")
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

    def _require_any_key(self, accounts: Mapping[str, SellerAccount]) -> None:
        """Reports if no account has a key. Reported only if all accounts could be read."""
        names = self._known_names("accounts")
        if (
            names is not None
            and len(accounts) == len(names)
            and not any(account.api_key for account in accounts.values())
        ):
            self._add_finding(Finding(NO_API_KEY, ("accounts",), ()), "accounts.yaml")

    # --- offers

    def _resolve_seller(self, name: str, accounts: Mapping[str, SellerAccount]) -> list[Offer]:
        file, config = f"offers/{name}.yaml", self.config.offers[name]
        self._check_name("account", config.account, self._known_names("accounts"), file, "account")
        self._check_name("adapter", config.adapter, self.adapters, file, "adapter")
        account, adapter = accounts.get(config.account), self.adapters.get(config.adapter)
        seller = Seller(name, account, adapter) if account and adapter else None
        offers = [self._resolve_offer(file, model, offer, adapter, seller) for model, offer in config.offers.items()]
        return [offer for offer in offers if offer]

    def _check_name(self, kind: str, name: str, known: Collection[str] | None, file: str, *steps: str | int) -> None:
        for message in cross_checks.check_name(kind, name, known):
            self._add_problem(message, file, *steps)

    def _resolve_offer(
        self, file: str, model: str, config: OfferConfig, adapter: Adapter | None, seller: Seller | None
    ) -> Offer | None:
        """Validates an offer; returns it only if its seller could be resolved."""
        for message in cross_checks.check_name("model", model, self._known_names("models")):
            self._add_finding(Finding(message, ("offers", model), ()), file)
        for finding in check_capabilities(config, adapter) if adapter else ():
            self._add_finding(finding, file, "offers", model)
        prices, expected_latency = self._resolve_prices(file, model, config), self._resolve_latency(file, model, config)
        if seller is None:
            return None
        return Offer(
            seller=seller,
            model=model,
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
            prices=prices,
            expected_latency=expected_latency,
            token_prices=config.tokens,
            position=list(self.config.offers).index(seller.name),
        )

    def _resolve_prices(self, file: str, model: str, config: OfferConfig) -> dict[Cell, Price]:
        prices: dict[Cell, Price] = {}
        rows: dict[Cell, int] = {}
        for index, row in enumerate(config.prices):
            row_path = ("offers", model, "prices", index)
            for cell in (
                _list_cells(row) if all(self.loaded.is_reliable(file, *row_path, name) for name in CELL_OPTIONS) else ()
            ):
                if cell in prices:
                    message = f"Duplicate price for {_format_cell(cell)}; the first is in row {rows[cell] + 1}"
                    self._add_finding(Finding(message, row_path, ()), file)
                    break
                rows[cell] = index
                prices[cell] = Price(
                    int(row.price), int(row.price if row.ceiling is None else row.ceiling), row.source, str(row.date)
                )
        for operation in Operation:
            has_prices = any(cell.operation is operation for cell in prices)
            if has_prices and getattr(config, operation) is None:
                message = f"Prices for '{operation}' need a '{operation}' block with its sizes"
                self._add_finding(Finding(message, ("prices",), ((operation.value,),)), file, "offers", model)
        if not prices:
            self._add_problem("Missing prices. Add at least one price row", file, "offers", model, "prices")
        return prices

    def _resolve_latency(self, file: str, model: str, config: OfferConfig) -> dict[Quality, ExpectedLatency]:
        fallback = config.seconds.get("any")
        latencies = {quality: config.seconds.get(quality.value, fallback) for quality in Quality}
        missing = [quality for quality, expected in latencies.items() if expected is None]
        if missing:
            message = f"Missing expected seconds for {', '.join(missing)}. Add them, or 'any' for all"
            self._add_problem(message, file, "offers", model, "seconds")
        return {quality: expected for quality, expected in latencies.items() if expected is not None}


def _list_cells(row: PriceRow) -> Sequence[Cell]:
    return [
        Cell(operation, resolution, quality)
        for operation in row.operations
        for resolution in row.resolutions
        for quality in row.qualities
    ]


def _format_cell(cell: Cell) -> str:
    return f"{cell.operation} {cell.resolution} {cell.quality}"
