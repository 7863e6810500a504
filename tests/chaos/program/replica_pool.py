"""The gateways of a chaos run: each is killed again and again, and starts again on the same port and data."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from tests.chaos.program.gateway_life import KILLS_FILE, GatewayLife, read_points
from tests.chaos.program.run_config import LEASE_SECONDS, TIMING
from tests.chaos.program.run_options import RunOptions
from tests.chaos.program.spared_jobs import read_spared_until
from tests.explore.failpoints import list_failpoints
from tests.harness.child_spec import ChildSpec, Hook
from tests.harness.gateway_process import GatewayProcess
from tests.harness.wait import wait_until
from tests.harness.webhook_receiver import WEBHOOK_SECRET

# Of the lives, those that end with a drain, and those that end before the start does.
DRAINED_SHARE, UNBORN_SHARE = 0.04, 0.05
# Of the kills, those at failpoints. The others come at any moment.
MAX_FAILPOINT_SHARE = 0.6
# Of the time, that in which only some lives end at a failpoint; and how many of them.
FEW_ARMED_SHARE, ARMED_SHARE = 0.35, 0.35
# How long a start takes, and how long a gateway lives after it at least, on average.
START_SECONDS, MIN_LIFE_SECONDS = 1.0, 0.6
DRAIN_SECONDS = 2
# A gateway that could not start, since its store is down or its configuration is broken, is started again after this.
RESTART_SECONDS = 0.4


class PoolCounts(Struct):
    """`failed_starts`: since the store or the configuration was not there. `failpoint_kills` are among `kills`.
    `spared_lives`: that were killed later than planned, so that the store does not double a lease again."""

    lives: int = 0
    kills: int = 0
    failpoint_kills: int = 0
    drains: int = 0
    freezes: int = 0
    failed_starts: int = 0
    spared_lives: int = 0


class PooledReplica:
    """One gateway, with its present life. `life_seconds`: how long it lives once it listens; `end_at`: when it ends, if
    that is known yet."""

    def __init__(self, gateway: GatewayProcess, number: int) -> None:
        self.gateway, self.number = gateway, number
        self.life_number = 0
        self.life_seconds = self.start_at = 0.0
        self.end_at: float | None = None
        self.is_drained = self.is_draining = self.is_frozen = self.is_killed = self.is_spared = False
        self.thaw_at = 0.0

    @property
    def spared_path(self) -> Path:
        """Where the process of the present life writes until when it is spared."""
        return self.gateway.folder / f"spared-{self.life_number}"


class ReplicaPool:
    """All replicas. Call `step` often; it does what is due. Times are those of the monotonic clock."""

    def __init__(self, options: RunOptions, config: Path, environ: Mapping[str, str], max_replicas: int) -> None:
        self.counts = PoolCounts()
        self.unexpected_exits: list[str] = []
        self._options = options
        self._random = Random(f"replicas {options.seed}")  # noqa: S311 - it must be repeatable
        mutant = options.mutant
        self._mutant_hooks = (Hook("tests.explore.mutants:install", {"name": mutant}),) if mutant else ()
        self._is_calm = False
        self._first_life_at = 0.0
        count = min(options.replicas, max_replicas)
        seconds_per_kill = options.trouble_seconds / max(1, options.kills)
        self._mean_life_seconds = max(MIN_LIFE_SECONDS, count * seconds_per_kill - START_SECONDS)
        self.replicas = [
            PooledReplica(self._make_gateway(options.folder / f"replica-{number}", config, environ), number)
            for number in range(1, count + 1)
        ]

    def _make_gateway(self, folder: Path, config: Path, environ: Mapping[str, str]) -> GatewayProcess:
        gateway = GatewayProcess(folder, config)
        gateway.environ |= {
            "IGW_WEBHOOKS": WEBHOOK_SECRET,
            "IGW_CALLBACK_URL": gateway.url,
            "IGW_DRAIN_SECONDS": str(DRAIN_SECONDS),
            **environ,
        }
        return gateway

    @property
    def urls(self) -> list[str]:
        return [replica.gateway.url for replica in self.replicas]

    @property
    def has_enough_kills(self) -> bool:
        return self.counts.kills >= self._options.kills

    def step(self, now: float) -> None:
        for replica in self.replicas:
            self._step_replica(replica, now)

    def _step_replica(self, replica: PooledReplica, now: float) -> None:
        gateway = replica.gateway
        if gateway.has_exited():
            self._record_exit(replica, gateway.wait_for_exit(), now)
        if not gateway.is_running:
            if now >= replica.start_at:
                self._start_life(replica, now)
            return
        if replica.is_frozen and now >= replica.thaw_at:
            self._thaw(replica)
        if replica.end_at is None and gateway.is_listening:
            replica.end_at = now + replica.life_seconds
        if replica.end_at is not None and now >= replica.end_at and not self._is_calm:
            self._end_life(replica)

    def _end_life(self, replica: PooledReplica) -> None:
        """Kills or drains the process, if that has not begun yet."""
        if replica.is_drained and not replica.is_frozen:
            if not replica.is_draining:
                replica.is_draining = True
                self.counts.drains += 1
                replica.gateway.send_signal(signal.SIGTERM)
        elif not self.has_enough_kills and not self._check_spared(replica):
            replica.is_killed = True
            replica.gateway.send_signal(signal.SIGKILL)

    def _check_spared(self, replica: PooledReplica) -> bool:
        is_spared = time.monotonic() < read_spared_until(replica.spared_path)
        self.counts.spared_lives += is_spared and not replica.is_spared
        replica.is_spared = replica.is_spared or is_spared
        return is_spared

    def _start_life(self, replica: PooledReplica, now: float) -> None:
        replica.life_number += 1
        self.counts.lives += 1
        replica.is_draining = replica.is_frozen = replica.is_killed = replica.is_spared = False
        replica.is_drained = not self._is_calm and self._random.random() < DRAINED_SHARE
        replica.life_seconds = self._random.uniform(0.1, 1.9) * self._mean_life_seconds
        replica.end_at = now + self._random.random() if self._random.random() < UNBORN_SHARE else None
        replica.gateway.child = ChildSpec(TIMING, (self._draw_life(replica, now).make_hook(), *self._mutant_hooks))
        replica.gateway.launch()

    def _draw_life(self, replica: PooledReplica, now: float) -> GatewayLife:
        """In calm times, a process neither kills itself, nor is its clock wrong."""
        life = GatewayLife(
            folder=str(self._options.folder),
            name=f"replica-{replica.number} life {replica.life_number}",
            spared_path=str(replica.spared_path),
            lease_seconds=LEASE_SECONDS,
            failpoints=list_failpoints(),
        )
        if self._is_calm:
            return life
        has_step = self._random.random() < 0.3
        return replace(
            life,
            is_armed=self._is_armed(now),
            seed=self._options.seed,
            clock_offset=self._random.uniform(-30.0, 30.0) if self._random.random() < 0.3 else 0.0,
            clock_steps=((self._random.uniform(0.5, 3.0), self._random.uniform(-30.0, 30.0)),) if has_step else (),
        )

    def _is_armed(self, now: float) -> bool:
        """Few lives at first, so that the others get on with the jobs, and all later: what is passed for the first time
        then is rare, and may not be passed again."""
        self._first_life_at = self._first_life_at or now
        is_early = now - self._first_life_at < self._options.trouble_seconds * FEW_ARMED_SHARE
        is_chosen = not is_early or self._random.random() < ARMED_SHARE
        return is_chosen and self.counts.failpoint_kills < MAX_FAILPOINT_SHARE * self._options.kills

    def _record_exit(self, replica: PooledReplica, exit_code: int, now: float) -> None:
        replica.start_at = now
        if exit_code == -signal.SIGKILL:
            self.counts.kills += 1
            self.counts.failpoint_kills += not replica.is_killed
        elif replica.is_draining:
            # A drain in an outage of the store may fail: the jobs are reclaimed as after a kill.
            replica.start_at = now
        elif exit_code == 1:
            self.counts.failed_starts += 1
            replica.start_at = now + RESTART_SECONDS
        else:
            self.unexpected_exits.append(f"replica-{replica.number} life {replica.life_number}: exit code {exit_code}")

    # --- freezes

    def freeze_one(self, seconds: float) -> None:
        """Stops a replica for some seconds, if one runs. It lives for longer than that, so that it wakes up."""
        candidates = [
            replica
            for replica in self.replicas
            if replica.gateway.is_running and not replica.is_frozen and replica.gateway.is_listening
        ]
        if not candidates:
            return
        replica = self._random.choice(candidates)
        replica.is_frozen, replica.thaw_at = True, time.monotonic() + seconds
        replica.end_at = max(replica.end_at or 0.0, replica.thaw_at + self._random.uniform(0.0, 2.0))
        self.counts.freezes += 1
        replica.gateway.send_signal(signal.SIGSTOP)

    def _thaw(self, replica: PooledReplica) -> None:
        replica.is_frozen = False
        replica.gateway.send_signal(signal.SIGCONT)

    # --- the end

    def count_failpoints(self) -> int:
        return len(read_points(self._options.folder / KILLS_FILE))

    def calm_down(self) -> None:
        """Starts a process of each replica that nothing disturbs any more, once no process is spared."""
        self._is_calm = True
        for replica in self.replicas:
            if replica.is_frozen:
                self._thaw(replica)
        wait_until(
            lambda: not any(self._check_spared(replica) for replica in self.replicas),
            "no process is spared",
            lambda: self.step(time.monotonic()),
        )
        for replica in self.replicas:
            if replica.gateway.is_running:
                replica.gateway.kill()
            self._start_life(replica, time.monotonic())
        self.wait_until_listening()

    def wait_until_listening(self) -> None:
        """Waits until all gateways listen. Those that have not begun their first life do so unharmed."""
        was_calm, self._is_calm = self._is_calm, True
        wait_until(self._are_all_listening, "all gateways listen", lambda: self.step(time.monotonic()))
        self._is_calm = was_calm

    def _are_all_listening(self) -> bool:
        return all(replica.gateway.is_running and replica.gateway.is_listening for replica in self.replicas)

    def stop(self) -> None:
        for replica in self.replicas:
            replica.gateway.stop()

    def kill_all(self) -> None:
        for replica in self.replicas:
            replica.gateway.kill_if_running()
