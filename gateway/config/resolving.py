"""From what the files say to what they mean together: names looked up, prices laid out in cells, claims checked."""

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from gateway.catalogue import Account, Catalogue, Cell, Model, Offer, Price, Seller
from gateway.config import judging, ruling
from gateway.config.blocks import AccountConfig, Config, Expected, ModelConfig, OfferConfig, PriceRow
from gateway.config.claims import claims_beyond
from gateway.config.findings import Finding, problems_in
from gateway.config.loading import Loaded
from gateway.config.located import Problem
from gateway.config.proxies import Proxy, ProxyRef
from gateway.config.values import Secret, SecretRef, digest_of
from providers.orders import Operation, Quality
from providers.sizes import SizeError, target_of_pixels
from providers.spec import Adapter


class Resolved(Struct, frozen=True):
    """A catalogue, or why there is none. Warnings leave it usable."""

    catalogue: Catalogue | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


Secrets = Callable[[SecretRef], Secret | None]
CELL_OPTIONS = ("operations", "resolutions", "qualities")
NO_KEYS = "no account has its key, so nothing can be bought"


def secrets_in(environ: Mapping[str, str]) -> Secrets:
    """The secrets that are really there."""
    return lambda reference: reference.resolve(environ)


def assumed_secrets(reference: SecretRef) -> Secret:
    """For planning where no secret is at hand, and none is needed."""
    return reference.assumed()


def resolve(loaded: Loaded, secrets: Secrets, adapters: Mapping[str, Adapter]) -> Resolved:
    if loaded.config is None:
        return Resolved(None, loaded.problems, ())
    return _Resolver(loaded, loaded.config, secrets, adapters).run()


class _Resolver:
    def __init__(self, loaded: Loaded, config: Config, secrets: Secrets, adapters: Mapping[str, Adapter]) -> None:
        self.loaded, self.config, self.secrets, self.adapters = loaded, config, secrets, adapters
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def run(self) -> Resolved:
        models = {name: self._model(name, model) for name, model in self.config.models.models.items()}
        accounts = {
            name: self._account(name, one)
            for name, one in self.config.accounts.accounts.items()
            if self.loaded.is_sure("accounts.yaml", "accounts", name)
        }
        self._have_a_key(accounts)
        offers = [offer for seller in self.config.offers for offer in self._seller(seller, accounts)]
        self.problems += judging.problems_of_policies(self.loaded, self.config)
        self.problems += ruling.problems_of_rules(self.loaded, self.config)
        keys = self._keys()
        if problems := [*self.loaded.problems, *self.problems]:
            problems.sort(key=lambda problem: (problem.place.file, problem.place.line))
            return Resolved(None, tuple(problems), tuple(self.warnings))
        catalogue = Catalogue(
            hash=self.config.hash,
            models={name: model for name, model in models.items() if model},
            aliases=self._aliases(),
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
            keys=keys,
        )
        return Resolved(catalogue, (), tuple(self.warnings))

    def _names(self, kind: str) -> Collection[str] | None:
        return self.loaded.names(kind)

    def _wrong(self, message: str, file: str, *steps: str | int) -> None:
        self._found(Finding(message, steps), file)

    def _found(self, finding: Finding, file: str, *above: str | int) -> None:
        self.problems += problems_in(self.loaded, file, [finding], *above)

    def _warn(self, message: str, file: str, *steps: str | int) -> None:
        self.warnings.append(Problem(self.loaded.place(file, *steps), message))

    # --- models

    def _model(self, name: str, config: ModelConfig) -> Model | None:
        if not self.loaded.is_sure("models.yaml", "models", name):
            return None
        width, height = config.defaults.size.pixels
        try:
            target_of_pixels(width, height)
        except SizeError as error:
            self._wrong(str(error), "models.yaml", "models", name, "defaults", "size")
            return None
        return Model(name, width, height, config.defaults.quality, config.defaults.output_format, config.most_images)

    def _aliases(self) -> dict[str, str]:
        return {
            alias: name
            for name, model in self.config.models.models.items()
            for alias in (*model.aliases, *model.dalle_aliases)
        }

    # --- teams

    def _keys(self) -> dict[str, str]:
        """A key that is not there is left out: nobody can call with it."""
        keys: dict[str, str] = {}
        for name, team in self.config.teams.teams.items():
            for number, reference in enumerate(team.keys):
                if (found := self.secrets(reference)) is None:
                    message = f"{reference} {reference.absence()}: nobody can call with this key"
                    self._warn(message, "teams.yaml", "teams", name, "keys", number)
                elif (other := keys.setdefault(digest_of(found.reveal()), name)) != name:
                    message = f"{reference} is the same key as one of team '{other}'"
                    self._wrong(message, "teams.yaml", "teams", name, "keys", number)
        return keys

    # --- accounts

    def _account(self, name: str, config: AccountConfig) -> Account:
        secret = self.secrets(config.key)
        if secret is None:
            message = f"{config.key} {config.key.absence()}: the account is left out"
            self._warn(message, "accounts.yaml", "accounts", name, "key")
        proxy = self._proxy(name, config.proxy) if config.proxy else None
        if config.proxy and proxy is None:
            # Not without it: that would be another way out than the one that was asked for.
            secret = None
        callbacks = [self.secrets(reference) for reference in config.callback_secrets]
        for number, found in enumerate(callbacks):
            if found is None:
                reference = config.callback_secrets[number]
                message = f"{reference} {reference.absence()}: callbacks signed with it are not believed"
                self._warn(message, "accounts.yaml", "accounts", name, "callback_secrets", number)
        return Account(
            name=name,
            base_url=config.base_url,
            secret=secret,
            replay_trusted=config.replay == "trusted",
            callback_secrets=tuple(found for found in callbacks if found),
            private=config.private,
            limits=config.limits,
            proxy=proxy,
        )

    def _proxy(self, name: str, reference: ProxyRef) -> Proxy | None:
        address = self.secrets(reference)
        proxy = Proxy.parse(address) if address else None
        if proxy is None:
            why = f"holds no address like {reference.WHOLE}" if address else reference.absence()
            self._warn(f"{reference} {why}: the account is left out", "accounts.yaml", "accounts", name, "proxy")
        return proxy

    def _have_a_key(self, accounts: Mapping[str, Account]) -> None:
        """Told only where every account could be read."""
        names = self._names("accounts")
        if names is not None and len(accounts) == len(names) and not any(one.secret for one in accounts.values()):
            self._found(Finding(NO_KEYS, ("accounts",), ()), "accounts.yaml")

    # --- offers

    def _seller(self, name: str, accounts: Mapping[str, Account]) -> list[Offer]:
        file, config = f"offers/{name}.yaml", self.config.offers[name]
        self._known("account", config.account, self._names("accounts"), file, "account")
        self._known("adapter", config.adapter, self.adapters, file, "adapter")
        account, adapter = accounts.get(config.account), self.adapters.get(config.adapter)
        seller = Seller(name, account, adapter) if account and adapter else None
        offers = [self._offer(file, model, offer, adapter, seller) for model, offer in config.offers.items()]
        return [offer for offer in offers if offer]

    def _known(self, kind: str, name: str, known: Collection[str] | None, file: str, *steps: str | int) -> None:
        for message in judging.unknown(kind, name, known):
            self._wrong(message, file, *steps)

    def _offer(
        self, file: str, model: str, config: OfferConfig, adapter: Adapter | None, seller: Seller | None
    ) -> Offer | None:
        """Judged even where its seller is unknown; an offer all the same only where he is not."""
        for message in judging.unknown("model", model, self._names("models")):
            self._found(Finding(message, ("offers", model), ()), file)
        for finding in claims_beyond(config, adapter) if adapter else ():
            self._found(finding, file, "offers", model)
        prices, seconds = self._prices(file, model, config), self._seconds(file, model, config)
        if seller is None:
            return None
        return Offer(
            seller=seller,
            model=model,
            their_model=config.model,
            images_per_order=config.images_per_order,
            selectable=frozenset(config.quality.selectable),
            assumes=config.quality.assumes,
            sizings={op: sizing for op in Operation if (sizing := getattr(config, op)) is not None},
            formats=frozenset(config.formats),
            unverified=config.unverified,
            mask=config.mask,
            inputs=config.inputs,
            prices=prices,
            seconds=seconds,
            tokens=config.tokens,
            position=list(self.config.offers).index(seller.name),
        )

    def _prices(self, file: str, model: str, config: OfferConfig) -> dict[Cell, Price]:
        prices: dict[Cell, Price] = {}
        rows: dict[Cell, int] = {}
        for number, row in enumerate(config.prices):
            at = ("offers", model, "prices", number)
            for cell in _cells(row) if all(self.loaded.is_sure(file, *at, name) for name in CELL_OPTIONS) else ():
                if cell in prices:
                    message = f"{_words(cell)} has a price already, in row {rows[cell] + 1}"
                    self._found(Finding(message, at, ()), file)
                    break
                rows[cell] = number
                prices[cell] = Price(
                    int(row.price), int(row.price if row.ceiling is None else row.ceiling), row.source, str(row.date)
                )
        for operation in Operation:
            priced = any(cell.operation is operation for cell in prices)
            if priced and getattr(config, operation) is None:
                message = f"{operation} has prices but no '{operation}' block that says how its sizes are ordered"
                self._found(Finding(message, ("prices",), ((operation.value,),)), file, "offers", model)
        if not prices:
            self._wrong("an offer without prices sells nothing", file, "offers", model, "prices")
        return prices

    def _seconds(self, file: str, model: str, config: OfferConfig) -> dict[Quality, Expected]:
        everything = config.seconds.get("any")
        seconds = {quality: config.seconds.get(quality.value, everything) for quality in Quality}
        missing = [quality for quality, expected in seconds.items() if expected is None]
        if missing:
            message = f"expected seconds are missing for {', '.join(missing)}: say them, or 'any' for all"
            self._wrong(message, file, "offers", model, "seconds")
        return {quality: expected for quality, expected in seconds.items() if expected is not None}


def _cells(row: PriceRow) -> Sequence[Cell]:
    return [
        Cell(operation, resolution, quality)
        for operation in row.operations
        for resolution in row.resolutions
        for quality in row.qualities
    ]


def _words(cell: Cell) -> str:
    return f"{cell.operation} {cell.resolution} {cell.quality}"
