"""Sample sellers: two cells of one seller, another seller through the same account, and a third through its own."""

from gateway.catalogue import SellerAccount
from gateway.config.value_types import Secret
from gateway.health.health_tracker import HealthKey, HealthTracker, OrderOutcome
from gateway.routing.signals import CellSignals
from providers.faults import VERDICTS, FaultKind, HealthScope
from tests.harness.image_model import ALL_CELLS
from tests.unit.routing.catalogue_factory import MODEL, make_catalogue, make_offer, make_uniform_prices

START = 1_700_000_000.0
HIGH_CELL, LOW_CELL = ALL_CELLS[-1], ALL_CELLS[0]
SCOPELESS_FAULTS = [kind for kind, verdict in VERDICTS.items() if verdict.health_scope is HealthScope.NONE]


def make_account(name: str) -> SellerAccount:
    return SellerAccount(name, f"https://{name}.example", Secret("s"), False, (), False)


RUNS_HIGH = HealthKey("runs", "runflow", MODEL, HIGH_CELL)
RUNS_LOW = HealthKey("runs", "runflow", MODEL, LOW_CELL)
RUN_HIGH = HealthKey("run", "runflow", MODEL, HIGH_CELL)
OTHER_ACCOUNT = HealthKey("runapi", "runapi", MODEL, HIGH_CELL)
ALL_KEYS = (RUNS_HIGH, RUNS_LOW, RUN_HIGH, OTHER_ACCOUNT)
CATALOGUE = make_catalogue(
    [
        make_offer("runs", make_uniform_prices(1), account=make_account("runflow")),
        make_offer("run", make_uniform_prices(1), account=make_account("runflow")),
        make_offer("runapi", make_uniform_prices(1), account=make_account("runapi")),
    ]
)


def make_success(seconds: float = 2.0, is_as_ordered: bool | None = None) -> OrderOutcome:
    return OrderOutcome(elapsed_seconds=seconds, is_as_ordered=is_as_ordered)


def make_failure(kind: FaultKind, retry_after: float | None = None, seconds: float | None = None) -> OrderOutcome:
    return OrderOutcome(fault=kind, retry_after=retry_after, elapsed_seconds=seconds)


def make_tracker(fault: FaultKind, times: int = 1, retry_after: float | None = None) -> HealthTracker:
    """Returns health that has recorded the fault for `RUNS_HIGH` at START so many times."""
    health = HealthTracker()
    for _ in range(times):
        health.record(RUNS_HIGH, make_failure(fault, retry_after), START)
    return health


def make_tracker_with_failures(every: int, times: int, interval: float) -> HealthTracker:
    health = HealthTracker()
    for number in range(times):
        health.record(
            RUNS_HIGH,
            make_failure(FaultKind.ORDER_FAILED) if number % every == 0 else make_success(0.1),
            START + number * interval,
        )
    return health


def is_healthy(health: HealthTracker, key: HealthKey, now: float) -> bool:
    return health.get_signals(key, now).healthy


def get_signals(health: HealthTracker, key: HealthKey, now: float = START) -> CellSignals:
    return health.get_signals(key, now)


def send_snapshot(sender: HealthTracker, receiver: HealthTracker, seconds: float = 0.0, name: str = "sender") -> None:
    """Sends a snapshot that is made and received `seconds` after START. Other replicas have published none."""
    receiver.merge_snapshots({name: sender.make_snapshot(START + seconds)}, START + seconds)
