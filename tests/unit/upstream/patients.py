"""Whose health is tested: two cells of one seller, another seller through the same account, and a third elsewhere."""

from gateway.catalogue import CELLS, Account
from gateway.config.values import Secret
from gateway.routing.signals import CellSignals
from gateway.upstream.health import Health, Outcome, Where
from providers.faults import FaultKind
from tests.unit.routing.catalogues import MODEL, catalogue, everywhere, offer

START = 1_000.0
WALL = 1_700_000_000.0
HIGH, LOW = CELLS[-1], CELLS[0]


def account(name: str) -> Account:
    return Account(name, f"https://{name}.example", Secret("s"), False, (), False)


RUNS = Where("runs", "runflow", MODEL, HIGH)
RUNS_LOW = Where("runs", "runflow", MODEL, LOW)
RUN = Where("run", "runflow", MODEL, HIGH)
ELSEWHERE = Where("runapi", "runapi", MODEL, HIGH)
EVERYWHERE = (RUNS, RUNS_LOW, RUN, ELSEWHERE)
CATALOGUE = catalogue(
    [
        offer("runs", everywhere(1), account=account("runflow")),
        offer("run", everywhere(1), account=account("runflow")),
        offer("runapi", everywhere(1), account=account("runapi")),
    ]
)


def success(seconds: float = 2.0, as_ordered: bool | None = None) -> Outcome:
    return Outcome(seconds=seconds, as_ordered=as_ordered)


def fault(kind: FaultKind, retry_after: float | None = None, seconds: float | None = None) -> Outcome:
    return Outcome(fault=kind, retry_after=retry_after, seconds=seconds)


def after(kind: FaultKind, times: int = 1, retry_after: float | None = None) -> Health:
    """Health that has seen this happen so often to `RUNS` at the START."""
    health = Health()
    for _ in range(times):
        health.record(RUNS, fault(kind, retry_after), START)
    return health


def failing(every: int, times: int, apart: float) -> Health:
    health = Health()
    for number in range(times):
        health.record(RUNS, fault(FaultKind.FAILED) if number % every == 0 else success(0.1), START + number * apart)
    return health


def is_healthy(health: Health, where: Where, now: float) -> bool:
    return health.known(where, now).healthy


def seen(health: Health, where: Where, now: float = START) -> CellSignals:
    return health.known(where, now)
