"""The faults of the proof, phase by phase, and the alerts that each phase must cause."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from tests.dashboards.prometheus_server import PrometheusServer, run_prometheus
from tests.dashboards.proof_gateways import NO_ANSWER, WEBHOOK_PATH, ProofGateways, run_proof_gateways
from tests.dashboards.shortened_rules import read_shortened_rules
from tests.harness.sandbox_runner import RunningSandbox, run_sandbox
from tests.harness.wait import wait_for_value, wait_until

QUIET_SECONDS = 25.0
PHASE_TIMEOUT_SECONDS = 150.0
SLOW_SECONDS = 8.0
SLOW_JOBS = 40
REDIS_OUTAGE_SECONDS = 9.0
# More than open the circuit breaker of a cell, in each of two replicas.
FAILING_JOBS = 12


class ScenarioTools(Struct, frozen=True):
    """The gateways and sellers that a phase changes."""

    proof: ProofGateways
    sandbox: RunningSandbox


class FaultPhase(Struct, frozen=True):
    """One fault. `alerts`: that fire because of it, and did not before; `end` ends it; `possible_alerts`: that may fire
    because of it, too, and must in a later phase."""

    name: str
    begin: Callable[[ScenarioTools], None]
    alerts: frozenset[str]
    end: Callable[[ScenarioTools], None] = lambda _: None
    possible_alerts: frozenset[str] = frozenset()


class PhaseRecord(Struct, frozen=True):
    """When a phase ran, and which alerts had fired at its end."""

    phase: FaultPhase
    started_at: float
    ended_at: float


def _clear_faults(tools: ScenarioTools) -> None:
    tools.sandbox.call_control_route("DELETE", "/faults")
    tools.sandbox.set_latency(0.0)


def _refuse_orders(tools: ScenarioTools) -> None:
    tools.sandbox.inject_fault("refuse", vendor="runapi", status=503)


def _fail_all_orders(tools: ScenarioTools) -> None:
    """Lets all sellers answer orders with status 500, which does not say whether they accepted them. The gateway sends
    an order to RunAPI again and again until its time is up, and so it does with each order that tests the seller."""
    for vendor in ("runapi", "runflow"):
        tools.sandbox.inject_fault("status", vendor=vendor, status=500)
    for seller in ("runflow-runs", "runapi", "runflow-run"):
        tools.proof.create_jobs(FAILING_JOBS, quality="low", provider={"only": [seller]})


def _spend_balance(tools: ScenarioTools) -> None:
    """Leaves less than an image costs, and orders at this seller."""
    tools.sandbox.set_balance("runapi", "0.01")
    tools.proof.create_jobs(2, quality="low", provider={"only": ["runapi"]})


def _add_credit(tools: ScenarioTools) -> None:
    tools.sandbox.set_balance("runapi", "1000000")


def _deliver_half_size(tools: ScenarioTools) -> None:
    tools.sandbox.inject_fault("half_size", vendor="runflow")


def _change_price(tools: ScenarioTools) -> None:
    """Configures less than the seller charges, so that it still gets the orders."""
    tools.proof.edit_config("offers/runflow-runs.yaml", 'price: "0.009"', 'price: "0.008"')


def _break_config(tools: ScenarioTools) -> None:
    tools.proof.edit_config("policies.yaml", "default: cheapest", "default: cheapst", replicas=(0,))


def _repair_config(tools: ScenarioTools) -> None:
    tools.proof.edit_config("policies.yaml", "default: cheapst", "default: cheapest", replicas=(0,))


def _change_one_replica(tools: ScenarioTools) -> None:
    tools.proof.edit_config("gateway.yaml", "max_open: 1000", "max_open: 999", replicas=(0,))


def _change_other_replica(tools: ScenarioTools) -> None:
    tools.proof.edit_config("gateway.yaml", "max_open: 1000", "max_open: 999", replicas=(1,))


def _refuse_webhooks(tools: ScenarioTools) -> None:
    """Lets the team's server fail some times, so that its webhooks are repeated, and then refuse all for good."""
    tools.proof.receiver.statuses[WEBHOOK_PATH] = [503] * 5 + [410]


def _hang_on_webhooks(tools: ScenarioTools) -> None:
    """Lets the team's server accept connections, and answer none."""
    tools.proof.receiver.statuses.clear()
    tools.proof.receiver.released.clear()


def _answer_webhooks(tools: ScenarioTools) -> None:
    tools.proof.receiver.released.set()


def _fail_moderation(tools: ScenarioTools) -> None:
    tools.proof.hooks.reply_to = lambda _: NO_ANSWER


def _repair_moderation(tools: ScenarioTools) -> None:
    tools.proof.answer_moderation()


def _lower_budget(tools: ScenarioTools) -> None:
    """Sets a budget that the team has spent already."""
    tools.proof.edit_config("teams.yaml", 'day: "500.00"', 'day: "0.10"')


def _deliver_nothing(tools: ScenarioTools) -> None:
    """Lets the seller charge 0.53 USD for each of some orders, without an image."""
    tools.sandbox.inject_fault("empty_outputs", vendor="runflow")
    tools.proof.create_jobs(6, quality="high", n=4, provider={"only": ["runflow-runs"]})


def _slow_down(tools: ScenarioTools) -> None:
    """Creates more jobs than the accounts take at once, so that some wait for a slot."""
    tools.sandbox.set_latency(SLOW_SECONDS)
    tools.proof.create_jobs(SLOW_JOBS, quality="low")


def _take_image_disk_away(tools: ScenarioTools) -> None:
    tools.proof.images.rename(tools.proof.images.with_name("gone"))


def _bring_image_disk_back(tools: ScenarioTools) -> None:
    tools.proof.images.with_name("gone").rename(tools.proof.images)


def _stop_redis_for_a_moment(tools: ScenarioTools) -> None:
    tools.proof.redis_server.kill()
    time.sleep(REDIS_OUTAGE_SECONDS)
    tools.proof.redis_server.start()


def _kill_replica(tools: ScenarioTools) -> None:
    """Kills a replica that has orders at sellers."""
    tools.sandbox.hold_orders()
    tools.proof.create_jobs(6, quality="low")
    tools.proof.gateways[0].kill()
    tools.sandbox.release_orders()


def _kill_other_replica(tools: ScenarioTools) -> None:
    tools.proof.gateways[1].kill()


def _name_alerts(*names: str) -> frozenset[str]:
    return frozenset(f"ImageGateway{name}" for name in names)


PHASES = (
    FaultPhase("a seller charges another price", _change_price, _name_alerts("PriceDrift")),
    FaultPhase("a seller fails", _refuse_orders, _name_alerts("CellDown"), _clear_faults),
    FaultPhase("a seller delivers half the size", _deliver_half_size, _name_alerts("DowngradedImages"), _clear_faults),
    FaultPhase(
        "an account has no credit left",
        _spend_balance,
        _name_alerts("AccountRefused", "BalanceLow", "BalanceRunsOut"),
        _add_credit,
    ),
    FaultPhase("a configuration is invalid", _break_config, _name_alerts("ReloadRefused"), _repair_config),
    FaultPhase(
        "configurations differ", _change_one_replica, _name_alerts("ConfigurationsDiffer"), _change_other_replica
    ),
    FaultPhase("a receiver of webhooks refuses them", _refuse_webhooks, _name_alerts("WebhooksFailed")),
    FaultPhase("a receiver of webhooks hangs", _hang_on_webhooks, _name_alerts("WebhooksLate"), _answer_webhooks),
    FaultPhase(
        "a moderation hook gives no valid answers", _fail_moderation, _name_alerts("ModerationDown"), _repair_moderation
    ),
    FaultPhase("a budget is spent", _lower_budget, _name_alerts("BudgetNearlySpent")),
    FaultPhase(
        "a seller delivers nothing",
        _deliver_nothing,
        _name_alerts("MoneyLost"),
        _clear_faults,
        # Its jobs may ask for no other seller: they fail, which is about a tenth of the jobs.
        possible_alerts=_name_alerts("FailuresBurnBudgetFast", "FailuresBurnBudgetSlowly"),
    ),
    FaultPhase(
        "sellers are slow",
        _slow_down,
        _name_alerts("CellSlow", "SlowJobsBurnBudgetFast", "SlowJobsBurnBudgetSlowly"),
        _clear_faults,
    ),
    FaultPhase(
        "every seller fails",
        _fail_all_orders,
        _name_alerts("EverySellerDown", "FailuresBurnBudgetFast", "FailuresBurnBudgetSlowly"),
        _clear_faults,
    ),
    FaultPhase(
        "the disk of the images is gone",
        _take_image_disk_away,
        _name_alerts("StorageTakesNoImages"),
        _bring_image_disk_back,
        # The tasks that store an image fail.
        possible_alerts=_name_alerts("InternalErrors"),
    ),
    FaultPhase(
        "Redis is gone for a moment", _stop_redis_for_a_moment, _name_alerts("StoreNotWritable", "InternalErrors")
    ),
    FaultPhase(
        "a replica is killed",
        _kill_replica,
        _name_alerts("ReplicaSilent", "ReplicaNotScraped", "ReplicasMissing", "JobsNotMoving"),
    ),
    FaultPhase("all replicas are killed", _kill_other_replica, _name_alerts("NoReplica")),
)


@contextmanager
def run_proof(folder: Path) -> Iterator[tuple[PrometheusServer, float, list[PhaseRecord]]]:
    """Runs the scenario. Yields Prometheus, which has all data, when it started, and what happened when."""
    with run_sandbox() as sandbox, run_proof_gateways(folder, sandbox) as proof:
        with run_prometheus(folder / "prometheus", proof.targets, read_shortened_rules()) as server:
            _wait_for_first_scrapes(server, len(proof.targets))
            started_at = time.time()
            phases = run_scenario(ScenarioTools(proof, sandbox), server)
            yield server, started_at, phases


def _wait_for_first_scrapes(server: PrometheusServer, target_count: int) -> None:
    """Before them there is no replica for Prometheus, which is an alert."""
    wait_until(
        lambda: server.count_healthy_targets() == target_count and not server.list_alerts(),
        "Prometheus has seen all replicas",
        lambda: time.sleep(0.2),
    )


def list_fired_alerts(server: PrometheusServer, since: float) -> set[str]:
    """Returns the names of the alerts that have been firing at any time since then."""
    seconds = max(1, int(time.time() - since))
    series = server.query(f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[{seconds}s]))')
    return {entry.labels["alertname"] for entry in series}


def run_scenario(tools: ScenarioTools, server: PrometheusServer) -> list[PhaseRecord]:
    """Runs all phases under load. Each lasts until its alerts fire."""
    records = []
    with tools.proof.send_requests():
        time.sleep(QUIET_SECONDS)
        for phase in PHASES:
            started_at = time.time()
            phase.begin(tools)
            _wait_for_alerts(server, phase, started_at)
            phase.end(tools)
            records.append(PhaseRecord(phase, started_at, time.time()))
    return records


def _wait_for_alerts(server: PrometheusServer, phase: FaultPhase, started_at: float) -> None:
    wait_for_value(
        lambda: phase.alerts - list_fired_alerts(server, started_at),
        lambda missing: not missing,
        f"alerts fire while {phase.name}",
        lambda: time.sleep(0.2),
        PHASE_TIMEOUT_SECONDS,
    )
