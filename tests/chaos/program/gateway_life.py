"""The life of one gateway process of a chaos run: where it kills itself, and how wrong its clock is.

The process is a gateway with its own dependencies wrapped, as in the explorer (`tests/explore`): the product has no
hooks. `install` runs in the child before the gateway starts.
"""

import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from types import FrameType, ModuleType
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway import gateway_lifecycle
from gateway.commands import serve
from gateway.components import Components, Environment, build_components, make_moderation_client
from gateway.engine.job_context import JobContext
from gateway.gateway_lifecycle import DEFAULT_FACTORIES, Gateway
from gateway.jobs.commit import Commit
from gateway.jobs.job import Job
from gateway.store.base import Applied
from tests.chaos.program.spared_jobs import SparedJobs
from tests.explore.failpoints import Interceptor
from tests.harness.child_spec import Hook

KILLS_FILE, REACHED_FILE = "failpoint_kills", "reached_failpoints"
NO_ADAPTER = "-"
BEFORE, AFTER = "before", "after"


class GatewayLife(Struct, frozen=True, kw_only=True):
    """`folder`: for the records of all lives. `failpoints`: of the engine. `is_armed`: whether the process kills itself
    at the first failpoint and adapter where no process was killed yet. `spared_path`, `lease_seconds`: of its
    `SparedJobs`. `seed`: of the run. `clock_offset`: how far its clock is wrong from the start; `clock_steps`: at which
    age it is set, and by how much."""

    folder: str
    name: str
    spared_path: str
    lease_seconds: float
    failpoints: frozenset[str]
    is_armed: bool = False
    seed: int = 0
    clock_offset: float = 0.0
    clock_steps: tuple[tuple[float, float], ...] = ()

    def make_hook(self) -> Hook:
        return Hook("tests.chaos.program.gateway_life:install", {"life": msgspec.to_builtins(self)})


class FailpointPass(Struct, frozen=True, order=True):
    """A failpoint with the adapter of the job that passes it, before or after its effect."""

    failpoint: str
    adapter: str
    moment: str

    @property
    def place(self) -> tuple[str, str]:
        return self.failpoint, self.adapter


def install(life: Mapping[str, Any]) -> None:
    """Wraps the dependencies of the gateway that this process will run, and replaces its clock."""
    this_life = msgspec.convert(life, GatewayLife)
    run_effect = FailpointKiller(this_life).run_effect

    def intercept(name: str, target: object) -> Any:
        return Interceptor(name, target, run_effect, this_life.failpoints)

    def build_intercepted(environment: Environment) -> Components:
        factories = replace(
            environment.factories,
            make_moderation_client=lambda *parts: intercept("moderation_client", make_moderation_client(*parts)),
        )
        wrapped = {name: intercept(name, getattr(environment, name)) for name in ("store", "storage", "seller_client")}
        return build_components(replace(environment, factories=factories, **wrapped))

    factories = replace(DEFAULT_FACTORIES, system_clock=make_clock(this_life))
    replacements: tuple[tuple[ModuleType, str, object], ...] = (
        (gateway_lifecycle, "build_components", build_intercepted),
        (serve, "Gateway", partial(Gateway, factories=factories)),
    )
    for module, name, replacement in replacements:
        setattr(module, name, replacement)


def make_clock(life: GatewayLife) -> Callable[[], float]:
    started_at = time.monotonic()

    def read_clock() -> float:
        age = time.monotonic() - started_at
        return time.time() + life.clock_offset + sum(step for at, step in life.clock_steps if at <= age)

    return read_clock


class FailpointKiller:
    """Records each failpoint that this process passes, and kills it where no process was killed yet. While one of its
    jobs is spared, it does neither."""

    def __init__(self, life: GatewayLife) -> None:
        self._life = life
        self._kills_path, self._reached_path = (Path(life.folder) / name for name in (KILLS_FILE, REACHED_FILE))
        self._spared_jobs = SparedJobs(Path(life.spared_path), life.lease_seconds)
        self._passed: set[FailpointPass] = set()
        self._killed_places: set[tuple[str, str]] = set()

    def run_effect(self, failpoint: str, effect: str, perform: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
        """Returns the effect, with both of its moments. The caller's stack is only there until this returns."""
        job = find_job(sys._getframe(2))
        return self._run(failpoint, job, partial(self._perform, effect, job, perform))

    async def _run(self, failpoint: str, job: Job | None, perform: Callable[[], Awaitable[Any]]) -> Any:
        if not self._life.is_armed or self._spared_jobs.has_any:
            return await perform()
        adapter = get_adapter(job)
        self._pass(FailpointPass(failpoint, adapter, BEFORE))
        try:
            return await perform()
        finally:
            if not self._spared_jobs.has_any:
                self._pass(FailpointPass(failpoint, adapter, AFTER))

    async def _perform(self, effect: str, job: Job | None, perform: Callable[[], Awaitable[Any]]) -> Any:
        result = await perform()
        if effect == "store.claim_jobs":
            self._spared_jobs.add_claimed(result)
        elif effect == "store.commit" and job is not None and isinstance(result, Applied):
            self._spared_jobs.remove(job.id)
        return result

    def _pass(self, point: FailpointPass) -> None:
        if point not in self._passed:
            self._passed.add(point)
            append_point(self._reached_path, point, self._life.name)
        if self._is_new(point) and point.moment == self._choose_moment(point):
            append_point(self._kills_path, point, self._life.name)
            os.kill(os.getpid(), signal.SIGKILL)

    def _choose_moment(self, point: FailpointPass) -> str:
        """Returns whether this run kills before or after the effect: the same in all of its processes."""
        return Random(f"{self._life.seed} {point.place}").choice((BEFORE, AFTER))  # noqa: S311 - it must be repeatable

    def _is_new(self, point: FailpointPass) -> bool:
        if point.place not in self._killed_places:
            self._killed_places = {killed.place for killed in read_points(self._kills_path)}
        return point.place not in self._killed_places


def append_point(path: Path, point: FailpointPass, name: str) -> None:
    """Appends a line at once: nothing is buffered when the process is killed."""
    line = "\t".join((point.failpoint, point.adapter, point.moment, name)) + "\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)


def read_points(path: Path) -> set[FailpointPass]:
    if not path.exists():
        return set()
    lines = path.read_text().rpartition("\n")[0].splitlines()
    return {FailpointPass(*line.split("\t")[:3]) for line in lines}


def find_job(frame: FrameType | None) -> Job | None:
    """Returns the job that the innermost function of the engine works on."""
    while frame is not None and frame.f_globals.get("__name__", "").startswith("gateway"):
        values = frame.f_locals
        owner, commit = values.get("self"), values.get("commit")
        context = getattr(owner, "_job_context", None) or getattr(owner, "job_context", None)
        job = values.get("job") or getattr(values.get("claimed_job"), "job", None)
        if isinstance(context, JobContext):
            job = context.job
        elif isinstance(commit, Commit):
            job = commit.job
        if isinstance(job, Job):
            return job
        frame = frame.f_back
    return None


def get_adapter(job: Job | None) -> str:
    if job is None:
        return NO_ADAPTER
    return job.route_entry(job.attempts[-1]).adapter if job.attempts else job.route[0].adapter
