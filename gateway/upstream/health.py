"""Which accounts and cells are well: learned from what became of orders, shared with the other replicas.

`now` is always this process's monotonic clock, `wall` the wall clock; only the age of what other replicas tell is
judged by it. Whether the last healthy offer is used all the same is for the routing to say.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from math import isfinite
from typing import TypeVar

from msgspec import Struct

from gateway.catalogue import Catalogue, Cell
from gateway.routing.signals import ENOUGH_DELIVERIES, UNKNOWN, CellSignals, Signals
from gateway.upstream.ailing import AccountHealth, CellHealth
from gateway.upstream.gates import NOTHING_TOLD, Gate
from gateway.upstream.measures import ENOUGH, Kept, Latency, joint_kept, joint_latency
from gateway.upstream.telling import AccountTold, CellTold, Heard, Key, Snapshot, read, write
from providers.faults import VERDICTS, Blame, FaultKind

SILENCE = 60.0
# By how much the wall clocks of two replicas may differ before the one's news look old to the other.
SKEW = 5.0
# Far more than any catalogue has. What was not touched for longest is forgotten first.
MOST_CELLS, MOST_ACCOUNTS, MOST_REPLICAS = 10_000, 1_000, 250

# Faults after which it is sure that the seller had taken the order, so that nothing is wrong with the account.
TAKEN = frozenset({FaultKind.FAILED, FaultKind.OVERDUE, FaultKind.EMPTY, FaultKind.EXPIRED})

State = TypeVar("State")
Name = TypeVar("Name", bound=Hashable)


class Where(Struct, frozen=True):
    """Where an order goes: to a seller, through an account, for a cell of a model."""

    seller: str
    account: str
    model: str
    cell: Cell

    @property
    def key(self) -> Key:
        return self.seller, self.model, self.cell


class Trial(Struct, frozen=True, eq=False):
    """One order's leave to be sent. No two are the same: only who has it may give it back (`Health.withdraw`)."""

    where: Where


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of an order. No fault is a success.

    `seconds` from sending it to its end; of a fault too, if known. `as_ordered`: whether what came is what was ordered.
    """

    fault: FaultKind | None = None
    seconds: float | None = None
    as_ordered: bool | None = None
    retry_after: float | None = None

    def began(self, now: float) -> float:
        known = self.seconds is not None and isfinite(self.seconds)
        return now - max(0.0, self.seconds or 0.0) if known else now


class Health:
    """Of one process. `name` is what it is called among the replicas: it does not listen to itself."""

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._accounts: OrderedDict[str, AccountHealth] = OrderedDict()
        self._cells: OrderedDict[Key, CellHealth] = OrderedDict()
        self._heard: OrderedDict[str, Heard] = OrderedDict()
        # Worked out from `_heard` when it is asked for, and anew whenever that changes.
        self._elsewhere: dict[Key, tuple[Latency, Kept]] = {}

    # --- what happens

    def record(self, where: Where, outcome: Outcome, now: float) -> None:
        """An order has ended."""
        account, cell = self._account(where.account), self._cell(where.key)
        began = outcome.began(now)
        blame = VERDICTS[outcome.fault].blame if outcome.fault else None
        if outcome.fault is None:
            account.succeeded(began)
            cell.succeeded(began, now)
            if outcome.seconds is not None:
                cell.latencies.add(outcome.seconds, now)
            self._judge(where.key, outcome.as_ordered, began, now)
        elif blame is Blame.ACCOUNT:
            account.failed(outcome.fault, outcome.retry_after, began, now)
            cell.gate.said_nothing(began)
            cell.fidelity.said_nothing(began)
        elif blame is Blame.CELL:
            cell.failed(began, now)
            cell.fidelity.said_nothing(began)
            # Without knowing when it was sent, it may be from before the account was shut.
            if outcome.fault in TAKEN and outcome.seconds is not None:
                account.succeeded(began)
            account.gate.said_nothing(began)
        else:
            self.not_tried(where, began)

    def _judge(self, key: Key, as_ordered: bool | None, began: float, now: float) -> None:
        cell = self._cell(key)
        if as_ordered is None:
            cell.fidelity.said_nothing(began)
        elif as_ordered:
            cell.delivered_as_ordered(began)
        else:
            cell.delivered_otherwise(self._find_elsewhere(key)[1], began, now)

    def accepted(self, account: str, seconds: float, now: float) -> None:
        """The seller took an order that was sent so many seconds ago: whatever becomes of it, the account is well."""
        self._account(account).succeeded(now - max(0.0, seconds))

    def may_try(self, where: Where, now: float) -> Trial | None:
        """Leave to send an order now. Where the account or the cell is due for a trial, this order is it, and no other
        gets leave until its outcome is known, or it is withdrawn. Where pictures are not what is ordered, orders are
        placed as a last resort; only while a trial is out, the others go elsewhere."""
        cell = self._cells.get(where.key)
        if not self._is_open(where, now) or (cell and cell.fidelity.is_on_trial(now)):
            return None
        trial = Trial(where)
        for gate in self._gates(where):
            if gate.lets_through(now):
                gate.try_one(trial, now)
        return trial

    def withdraw(self, trial: Trial) -> None:
        """The order that got this leave was not sent. Whatever another one tries meanwhile goes on."""
        for gate in self._gates(trial.where):
            gate.withdrawn(trial)

    def not_tried(self, where: Where, began: float) -> None:
        """An order that was sent then has ended without saying anything of the seller."""
        for gate in self._gates(where):
            gate.said_nothing(began)

    def renewed(self, account: str, now: float) -> None:
        """It has another key or address: what it was shut for is over."""
        self._account(account).gate.renewed(now)

    # --- what is known

    def signals(self, catalogue: Catalogue, now: float, load: Callable[[str], float]) -> Signals:
        """What is known now of the catalogue's cells; each is worked out when it is looked at, so look at once."""
        self._forget_silent(now)
        return _Known(self, catalogue, now, load)

    def known(self, where: Where, now: float, load: float = 0.0) -> CellSignals:
        """Of one cell; UNKNOWN if nothing is."""
        cell = self._cells.get(where.key)
        latency, kept = self._measured(where.key, cell, now)
        is_known = kept.count >= ENOUGH_DELIVERIES
        return CellSignals(
            healthy=self._is_open(where, now),
            p50=latency.p50 if latency.count >= ENOUGH else None,
            p90=latency.p90 if latency.count >= ENOUGH else None,
            load=load,
            conformance=kept.share if is_known else None,
            faithful=cell is None or cell.fidelity.lets_through(now),
            deliveries=kept.count if is_known else 0,
        )

    def _measured(self, key: Key, cell: CellHealth | None, now: float) -> tuple[Latency, Kept]:
        latency, kept = (cell.latencies.latency(now), cell.kept(now)) if cell else (Latency(), Kept())
        if not self._heard:
            return latency, kept
        latency_there, kept_there = self._find_elsewhere(key)
        return joint_latency((latency, latency_there)), joint_kept((kept, kept_there))

    def _find_elsewhere(self, key: Key) -> tuple[Latency, Kept]:
        if key not in self._elsewhere:
            self._elsewhere[key] = self._measured_elsewhere(key)
        return self._elsewhere[key]

    def _measured_elsewhere(self, key: Key) -> tuple[Latency, Kept]:
        told = [found for one in self._heard.values() if (found := one.cells.get(key))]
        return joint_latency([one.latency for one in told]), joint_kept([one.kept for one in told])

    # --- replicas

    def snapshot(self, now: float, wall: float) -> bytes:
        """What this process has seen itself, for the others."""
        accounts = (AccountTold(name, one.gate.told(now)) for name, one in self._accounts.items())
        cells = (
            CellTold(*key, cell.gate.told(now), cell.latencies.latency(now), cell.kept(now), cell.fidelity.told(now))
            for key, cell in self._cells.items()
        )
        return write(
            Snapshot(
                version=1,
                at=wall,
                accounts=tuple(told for told in accounts if told.gate != NOTHING_TOLD),
                cells=tuple(told for told in cells if told.says_something),
            )
        )

    def merge(self, name: str, data: bytes, now: float, wall: float) -> bool:
        """Another replica's snapshot: whether it was news. The same one may come again, as the store keeps it.

        Clocks: a snapshot that looks older than SKEW is taken for that much older than it is after SKEW; otherwise it
        counts as just made, which is an exchange late at most. A replica whose clock is a minute slow is not heard.
        """
        self._forget_silent(now)
        told = None if name == self._name else read(data)
        last = self._heard.get(name)
        if told is None or wall - told.at > SILENCE or (last and told.at <= last.at):
            return False
        then = now - max(0.0, wall - told.at - SKEW)
        for account in told.accounts:
            self._account(account.account).gate.hear(account.gate, name, then)
        for cell in told.cells:
            known = self._cell(cell.key)
            known.gate.hear(cell.gate, name, then)
            known.fidelity.hear(cell.fidelity, name, then)
        self._elsewhere.clear()
        self._heard[name] = Heard(told.at, now, {cell.key: cell for cell in told.cells})
        self._heard.move_to_end(name)
        if len(self._heard) > MOST_REPLICAS:
            self._forget(next(iter(self._heard)), now)
        return True

    def _forget_silent(self, now: float) -> None:
        for name in [name for name, one in self._heard.items() if now - one.arrived > SILENCE]:
            self._forget(name, now)

    def _forget(self, name: str, now: float) -> None:
        del self._heard[name]
        self._elsewhere.clear()
        for account in self._accounts.values():
            account.gate.forget(name, now)
        for cell in self._cells.values():
            cell.gate.forget(name, now)
            cell.fidelity.forget(name, now)

    def _is_open(self, where: Where, now: float) -> bool:
        """Whether account and cell let orders through: what is not known has never been shut."""
        account, cell = self._accounts.get(where.account), self._cells.get(where.key)
        return all(found.gate.lets_through(now) for found in (account, cell) if found)

    def _gates(self, where: Where) -> list[Gate]:
        account, cell = self._accounts.get(where.account), self._cells.get(where.key)
        return [*([account.gate] if account else []), *([cell.gate, cell.fidelity] if cell else [])]

    def _account(self, name: str) -> AccountHealth:
        return _kept(self._accounts, name, AccountHealth, MOST_ACCOUNTS)

    def _cell(self, key: Key) -> CellHealth:
        return _kept(self._cells, key, CellHealth, MOST_CELLS)


def _kept(states: OrderedDict[Name, State], name: Name, make: Callable[[], State], most: int) -> State:
    if name in states:
        states.move_to_end(name)
    else:
        states[name] = make()
        if len(states) > most:
            states.popitem(last=False)
    return states[name]


class _Known(Mapping[Key, CellSignals]):
    """Every cell of the catalogue of which anything is known. A plan asks for a few of very many."""

    def __init__(self, health: Health, catalogue: Catalogue, now: float, load: Callable[[str], float]) -> None:
        self._health, self._catalogue, self._now, self._load = health, catalogue, now, load

    def __getitem__(self, key: Key) -> CellSignals:
        seller = self._catalogue.sellers.get(key[0])
        if seller is None:
            raise KeyError(key)
        account = seller.account.name
        found = self._health.known(Where(key[0], account, key[1], key[2]), self._now, self._load(account))
        if found == UNKNOWN:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[Key]:
        for offer in self._catalogue.all_offers():
            keys = ((offer.seller.name, offer.model, cell) for cell in offer.prices)
            yield from (key for key in keys if key in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        """Nobody need count before asking."""
        return True
