"""Tracks which accounts and cells are healthy, from outcomes of orders and from other replicas' snapshots.

`now` is the slewed wall clock, so that replicas can share until when a breaker is open. Routing decides whether an
unhealthy offer is used when no healthy one is left.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from math import isfinite
from typing import TypeVar

from msgspec import Struct

from gateway.catalogue import Catalogue, SellerAccount
from gateway.config.value_types import Secret, sha256_hex
from gateway.health.account_and_cell_health import AccountHealth, CellHealth
from gateway.health.account_check import FAULTS_BY_REFUSAL, AccountCheck
from gateway.health.charged_prices import CellCharge, estimate_price
from gateway.health.circuit_breaker import BreakerState, CircuitBreaker, Refusal
from gateway.health.health_snapshot import (
    AccountSnapshot,
    CellKey,
    CellSnapshot,
    HealthSnapshot,
    decode_snapshot,
    encode_snapshot,
)
from gateway.health.rolling_stats import (
    MIN_LATENCY_SAMPLES,
    ConformanceRate,
    LatencyStats,
    merge_conformance,
    merge_latency,
)
from gateway.routing.signals import MIN_DELIVERIES, UNKNOWN_SIGNALS, CellSignals, Signals
from gateway.timeouts_and_intervals import HealthTiming
from providers.faults import VERDICTS, FaultKind, HealthScope
from providers.orders import Cell

# Far more entries than any catalogue has. The least recently used entry is dropped first.
MAX_CELLS, MAX_ACCOUNTS = 10_000, 1_000
ACCESS_DIGEST_DIGITS = 8

# Faults that prove that the seller accepted the order, so the account works.
ACCEPTED_FAULTS = frozenset(
    {FaultKind.ORDER_FAILED, FaultKind.ORDER_TIMED_OUT, FaultKind.NO_IMAGES, FaultKind.IMAGES_EXPIRED}
)

State = TypeVar("State")
StateKey = TypeVar("StateKey", bound=Hashable)


class HealthKey(Struct, frozen=True):
    """The subjects that an outcome counts for: a seller, its account, and a cell of a model."""

    seller: str
    account: str
    model: str
    cell: Cell

    @property
    def cell_key(self) -> CellKey:
        return self.seller, self.model, self.cell


class OrderPermit(Struct, frozen=True, eq=False):
    """Permission to send one order. Compared by identity, so only its holder can release it."""

    key: HealthKey


class OrderOutcome(Struct, frozen=True, kw_only=True):
    """How an order ended. It succeeded if `fault` is None.

    `elapsed_seconds`: the time from sending the order to its end, if known; `moderation_seconds`: the part of it in
    which the operator's moderation was asked. `is_as_ordered`: whether the images match the order.
    """

    fault: FaultKind | None = None
    elapsed_seconds: float | None = None
    moderation_seconds: float = 0.0
    is_as_ordered: bool | None = None
    retry_after: float | None = None

    def estimate_send_time(self, now: float) -> float:
        is_known = self.elapsed_seconds is not None and isfinite(self.elapsed_seconds)
        return now - max(0.0, self.elapsed_seconds or 0.0) if is_known else now


class HealthTracker:
    """Health as one process sees it. `replica_name`: snapshots under this name are its own and are ignored."""

    def __init__(self, replica_name: str = "", timing: HealthTiming = HealthTiming()) -> None:
        self._timing = timing
        self._replica_name = replica_name
        self._accounts: OrderedDict[str, AccountHealth] = OrderedDict()
        self._cells: OrderedDict[CellKey, CellHealth] = OrderedDict()
        # The statistics of all other replicas, merged.
        self._replica_stats: dict[CellKey, tuple[LatencyStats, ConformanceRate]] = {}
        # How many replicas come before this one by name. The first one does what one replica does for all.
        self.replica_position = 0
        # Whether routing ranks by what sellers charge; and the charges of all other replicas.
        self.believes_charged_prices = False
        self._replica_charges: dict[CellKey, tuple[CellCharge, ...]] = {}

    def configure(self, accounts: Mapping[str, SellerAccount], now: float) -> None:
        """Applies the accounts of a configuration: the circuit breaker of an account closes if its key, base URL or
        proxy has changed. An account without a key keeps its health until it has one again."""
        for name, account in accounts.items():
            if account.api_key is not None:
                self._get_account(name).set_access(_compute_access_digest(account, account.api_key), now)

    # --- outcomes

    def record(self, key: HealthKey, outcome: OrderOutcome, now: float) -> None:
        """Records how an order ended."""
        account, cell = self._get_account(key.account), self._get_cell(key.cell_key)
        sent_at = outcome.estimate_send_time(now)
        scope = VERDICTS[outcome.fault].health_scope if outcome.fault else None
        if outcome.fault is None:
            account.record_success(sent_at)
            cell.record_success(sent_at, now)
            if outcome.elapsed_seconds is not None:
                cell.latencies.add(outcome.elapsed_seconds - outcome.moderation_seconds, now)
            self._record_conformance(key.cell_key, outcome.is_as_ordered, sent_at, now)
        elif scope is HealthScope.ACCOUNT:
            account.record_failure(outcome.fault, outcome.retry_after, sent_at, now)
            cell.breaker.record_inconclusive(sent_at)
            cell.fidelity_breaker.record_inconclusive(sent_at)
        elif scope is HealthScope.CELL:
            cell.record_failure(sent_at, now)
            if outcome.elapsed_seconds is not None:
                cell.record_late_failure(outcome.fault, outcome.elapsed_seconds, now)
            cell.fidelity_breaker.record_inconclusive(sent_at)
            # If the time of sending is unknown, the order may be older than the open breaker of the account.
            if outcome.fault in ACCEPTED_FAULTS and outcome.elapsed_seconds is not None:
                account.record_success(sent_at)
            account.breaker.record_inconclusive(sent_at)
        else:
            self.record_inconclusive(key, sent_at)

    def _record_conformance(self, cell_key: CellKey, is_as_ordered: bool | None, sent_at: float, now: float) -> None:
        cell = self._get_cell(cell_key)
        if is_as_ordered is None:
            cell.fidelity_breaker.record_inconclusive(sent_at)
        elif is_as_ordered:
            cell.record_conforming_delivery(sent_at)
        else:
            cell.record_unfaithful_delivery(self._get_replica_stats(cell_key)[1], sent_at, now)

    def record_accepted(self, account: str, elapsed_seconds: float, now: float) -> None:
        """Records that the seller accepted an order that was sent `elapsed_seconds` ago. This proves that the account
        works."""
        self._get_account(account).record_success(now - max(0.0, elapsed_seconds))

    def record_refusal(self, account: str, fault: FaultKind, now: float) -> None:
        """Records that the seller refused the account before an order was sent. Nothing changes if no check can show
        that this is over: then the next order shows it."""
        self._get_account(account).record_refusal(fault, now)

    def record_charge(self, key: HealthKey, price: int, now: float) -> None:
        """Records what the seller charged per image."""
        self._get_cell(key.cell_key).charged_prices.add(price, now)

    def record_check(self, account: str, check: AccountCheck, now: float) -> None:
        """Records a check of an account by this replica. The other replicas learn of it."""
        self._get_account(account).record_check(check, now)

    def acquire_permit(self, key: HealthKey, now: float) -> OrderPermit | None:
        """Returns a permit to send one order, or None while a circuit breaker blocks it.

        If a breaker is half-open, the permit is for its probe, and no other permit is given until the probe's outcome
        is known or the permit is released. An open fidelity breaker blocks orders only while its probe is in flight.
        """
        permit, tripped = OrderPermit(key), [breaker for breaker in self._get_breakers(key) if breaker.get_trip(now)]
        if tripped:
            cell = self._cells.get(key.cell_key)
            account = self._accounts.get(key.account)
            if not _allows_request(account, cell, now) or (cell and cell.fidelity_breaker.is_probing(now)):
                return None
            for breaker in tripped:
                if breaker.allows_request(now):
                    breaker.start_probe(permit, now)
        return permit

    def release_permit(self, permit: OrderPermit) -> None:
        """Gives back the permit of an order that was not sent. Another order's probe is not affected."""
        for breaker in self._get_breakers(permit.key):
            breaker.cancel_probe(permit)

    def record_inconclusive(self, key: HealthKey, sent_at: float) -> None:
        """Records an order whose outcome proves nothing about the seller."""
        for breaker in self._get_breakers(key):
            breaker.record_inconclusive(sent_at)

    # --- signals

    def get_catalogue_signals(self, catalogue: Catalogue, now: float, load: Callable[[str], float]) -> Signals:
        """Returns a view of the signals of the catalogue's cells. Each signal is computed when it is read, so read the
        view soon."""
        return _SignalsView(self, catalogue, now, load)

    def get_signals(self, key: HealthKey, now: float, load: float = 0.0) -> CellSignals:
        """Returns the signals of one cell; UNKNOWN_SIGNALS if there is no data about it."""
        cell_key = key.cell_key
        account, cell = self._accounts.get(key.account), self._cells.get(cell_key)
        latency, conformance = self._get_stats(cell_key, cell, now)
        has_enough_deliveries = conformance.count >= MIN_DELIVERIES
        return CellSignals(
            healthy=_allows_request(account, cell, now),
            p50=latency.p50 if latency.count >= MIN_LATENCY_SAMPLES else None,
            p90=latency.p90 if latency.total_count >= MIN_LATENCY_SAMPLES else None,
            load=load,
            conformance=conformance.share if has_enough_deliveries else None,
            faithful=cell is None or cell.fidelity_breaker.allows_request(now),
            deliveries=conformance.count if has_enough_deliveries else 0,
            refusal=FAULTS_BY_REFUSAL.get(account.breaker.get_refusal(now)) if account else None,
            charged_price=self._estimate_price(cell_key, cell, now) if self.believes_charged_prices else None,
        )

    def _estimate_price(self, cell_key: CellKey, cell: CellHealth | None, now: float) -> int | None:
        own = cell.charged_prices.list_recent(now) if cell else ()
        return estimate_price((*own, *self._replica_charges.get(cell_key, ())), now)

    def get_account_breaker_state(self, account: str, now: float) -> BreakerState:
        known = self._accounts.get(account)
        return known.breaker.get_state(now) if known else BreakerState.CLOSED

    def get_account_refusal(self, account: str, now: float) -> Refusal:
        """Returns why the seller refuses the account, if only a check can show that this is over."""
        known = self._accounts.get(account)
        return known.breaker.get_refusal(now) if known else Refusal.NONE

    def get_account_check(self, account: str) -> AccountCheck | None:
        """Returns the latest check of the account by any replica."""
        known = self._accounts.get(account)
        return known.last_check if known else None

    def get_cell_breaker_state(self, key: HealthKey, now: float) -> BreakerState:
        """Returns the worse state of the breakers of the cell and of its account: both must let an order pass."""
        cell = self._cells.get(key.cell_key)
        cell_state = cell.breaker.get_state(now) if cell else BreakerState.CLOSED
        return max(cell_state, self.get_account_breaker_state(key.account, now))

    def _get_stats(
        self, cell_key: CellKey, cell: CellHealth | None, now: float
    ) -> tuple[LatencyStats, ConformanceRate]:
        latency, conformance = (
            (cell.latencies.get_stats(now), cell.get_conformance_rate(now))
            if cell
            else (LatencyStats(), ConformanceRate())
        )
        if cell_key not in self._replica_stats:
            return latency, conformance
        replica_latency, replica_conformance = self._get_replica_stats(cell_key)
        return merge_latency((latency, replica_latency)), merge_conformance((conformance, replica_conformance))

    def _get_replica_stats(self, cell_key: CellKey) -> tuple[LatencyStats, ConformanceRate]:
        return self._replica_stats.get(cell_key, (LatencyStats(), ConformanceRate()))

    # --- replicas

    def make_snapshot(self, now: float) -> bytes:
        """Encodes what this process observed itself, for the other replicas; and the refusals and checks of accounts
        that it learned of."""
        accounts = {(name, account.access_digest): account.to_snapshot(now) for name, account in self._accounts.items()}
        cells = {key: _make_cell_snapshot(cell, now) for key, cell in self._cells.items()}
        # Entries without data are left out: replicas would keep those of removed sellers for each other.
        return encode_snapshot(
            HealthSnapshot(
                version=7,
                wall_time=max(0.0, now),
                accounts={key: snapshot for key, snapshot in accounts.items() if snapshot != AccountSnapshot()},
                cells={key: snapshot for key, snapshot in cells.items() if snapshot != CellSnapshot()},
            )
        )

    def merge_snapshots(self, snapshots: Mapping[str, bytes], now: float) -> None:
        """Merges the last snapshots of all replicas, by name. Merging one again changes nothing.

        Snapshots of a replica whose clock is a minute slow are ignored; a clock that is ahead is corrected.
        """
        decoded = {name: decode_snapshot(data) for name, data in snapshots.items() if name != self._replica_name}
        recent = {
            name: snapshot
            for name, snapshot in decoded.items()
            if snapshot and now - snapshot.wall_time <= self._timing.replica_ttl_seconds
        }
        self.replica_position = sum(name < self._replica_name for name in recent)
        cells_by_key: defaultdict[CellKey, list[CellSnapshot]] = defaultdict(list)
        for snapshot in recent.values():
            self._merge_breakers(snapshot, now)
            for key, cell in snapshot.cells.items():
                cells_by_key[key].append(cell)
        self._replica_charges = {
            key: tuple(charge for cell in cells for charge in cell.charges) for key, cells in cells_by_key.items()
        }
        self._replica_stats = {
            key: (
                merge_latency([cell.latency for cell in cells]),
                merge_conformance([cell.conformance for cell in cells]),
            )
            for key, cells in cells_by_key.items()
        }

    def _merge_breakers(self, snapshot: HealthSnapshot, now: float) -> None:
        clock_lead = max(0.0, snapshot.wall_time - now)
        for (name, access_digest), account_snapshot in snapshot.accounts.items():
            # A replica that still has a former key proves nothing about the new one, and the other way round.
            if access_digest == (account := self._get_account(name)).access_digest:
                account.merge_snapshot(account_snapshot, now, clock_lead)
        for key, cell_snapshot in snapshot.cells.items():
            cell = self._get_cell(key)
            cell.breaker.merge_snapshot(cell_snapshot.breaker, now, clock_lead)
            cell.fidelity_breaker.merge_snapshot(cell_snapshot.fidelity_breaker, now, clock_lead)

    def _get_breakers(self, key: HealthKey) -> list[CircuitBreaker]:
        account, cell = self._accounts.get(key.account), self._cells.get(key.cell_key)
        return [*([account.breaker] if account else []), *([cell.breaker, cell.fidelity_breaker] if cell else [])]

    def _get_account(self, name: str) -> AccountHealth:
        return _get_or_create(self._accounts, name, lambda: AccountHealth(self._timing), MAX_ACCOUNTS)

    def _get_cell(self, cell_key: CellKey) -> CellHealth:
        return _get_or_create(self._cells, cell_key, lambda: CellHealth(self._timing), MAX_CELLS)


def _make_cell_snapshot(cell: CellHealth, now: float) -> CellSnapshot:
    breaker, fidelity_breaker = cell.breaker.to_snapshot(now), cell.fidelity_breaker.to_snapshot(now)
    return CellSnapshot(
        breaker,
        fidelity_breaker,
        cell.latencies.get_stats(now),
        cell.get_conformance_rate(now),
        cell.charged_prices.list_recent(now),
    )


def _compute_access_digest(account: SellerAccount, api_key: Secret) -> str:
    """Computes a digest of how the account is reached. It is too short to find the key with it."""
    proxy = account.proxy
    credentials = proxy.credentials.reveal() if proxy and proxy.credentials else ""
    access = (api_key.reveal(), account.base_url, proxy.address if proxy else "", credentials)
    return sha256_hex("\n".join(access))[:ACCESS_DIGEST_DIGITS]


def _allows_request(account: AccountHealth | None, cell: CellHealth | None, now: float) -> bool:
    """Returns whether the breakers of account and cell allow an order. Unknown ones count as closed."""
    return (account is None or account.breaker.allows_request(now)) and (
        cell is None or cell.breaker.allows_request(now)
    )


def _get_or_create(
    states: OrderedDict[StateKey, State], key: StateKey, create: Callable[[], State], max_count: int
) -> State:
    if key in states:
        states.move_to_end(key)
    else:
        states[key] = create()
        if len(states) > max_count:
            states.popitem(last=False)
    return states[key]


class _SignalsView(Mapping[CellKey, CellSignals]):
    """A mapping from cells of the catalogue to their signals; cells without signals are missing. Signals are computed
    when read, since a plan reads only a few."""

    def __init__(self, health: HealthTracker, catalogue: Catalogue, now: float, load: Callable[[str], float]) -> None:
        self._health, self._catalogue, self._now, self._load = health, catalogue, now, load

    def __getitem__(self, key: CellKey) -> CellSignals:
        seller = self._catalogue.sellers.get(key[0])
        if seller is None:
            raise KeyError(key)
        account = seller.account.name
        signals = self._health.get_signals(HealthKey(key[0], account, key[1], key[2]), self._now, self._load(account))
        if signals == UNKNOWN_SIGNALS:
            raise KeyError(key)
        return signals

    def __iter__(self) -> Iterator[CellKey]:
        for offer in self._catalogue.iter_offers():
            keys = ((offer.seller.name, offer.model, cell) for cell in offer.prices)
            yield from (key for key in keys if key in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        """Returns True, so that a truth test does not count all cells."""
        return True
