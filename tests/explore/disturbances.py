"""The disturbances at the failpoints of one run: drawn from the seed, for numbered effects."""

from enum import StrEnum
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from tests.explore.failpoints import list_failpoints


class DisturbanceKind(StrEnum):
    """What happens at a failpoint. Store and storage fail, every effect can be delayed, every replica killed."""

    FAIL_BEFORE = "fails before the effect"
    FAIL_AFTER = "fails after the effect"
    DELAY_BEFORE = "is delayed before the effect"
    DELAY_AFTER = "is delayed after the effect"
    PAUSE_BEFORE = "pauses the replica before the effect"
    PAUSE_AFTER = "pauses the replica after the effect"
    KILL_BEFORE = "kills the replica before the effect"
    KILL_AFTER = "kills the replica after the effect"

    @property
    def is_before_effect(self) -> bool:
        return self in BEFORE_EFFECT


BEFORE_EFFECT = {
    DisturbanceKind.FAIL_BEFORE,
    DisturbanceKind.DELAY_BEFORE,
    DisturbanceKind.PAUSE_BEFORE,
    DisturbanceKind.KILL_BEFORE,
}
KIND_WEIGHTS = {
    DisturbanceKind.FAIL_BEFORE: 2,
    DisturbanceKind.FAIL_AFTER: 2,
    DisturbanceKind.DELAY_BEFORE: 2,
    DisturbanceKind.DELAY_AFTER: 2,
    DisturbanceKind.PAUSE_BEFORE: 2,
    DisturbanceKind.PAUSE_AFTER: 3,
    DisturbanceKind.KILL_BEFORE: 3,
    DisturbanceKind.KILL_AFTER: 4,
}
# Effects of the periodic tasks are numbered separately, since there are many of them.
PERIODIC_EFFECTS = frozenset(
    {
        "store.claim_jobs",
        "store.expire_leases_of_killed_replicas",
        "store.renew_leases",
        "store.publish_signal",
        "store.read_signals",
        "store.audit",
    }
    | {"store.claim_audit", "store.list_jobs_to_clean_up", "store.delete_expired"}
)
MAX_EFFECT_NUMBER, MAX_PERIODIC_NUMBER = 45, 60
# Parts of the names of the failpoints of retention, and of a job that its client deletes.
CLEANUP_FAILPOINTS = ("_delete_expired", "job_cleanup_runner")
DELETION_FAILPOINTS = ("delete_job_content", "save_fact")
SEND_ORDER = "order_submitter.OrderSubmitter.send -> seller_client.send"
UNKNOWN_FAILURE_SHARE = 0.3
DELAYS_SECONDS = (0.2, 1.0, 3.0, 10.0, 25.0)


class Disturbance(Struct, frozen=True):
    """A disturbance at one failpoint. `delay`: how long it delays an effect, or pauses a replica."""

    kind: DisturbanceKind
    delay: float = 0.0


class DisturbancePlan(Struct, frozen=True, kw_only=True):
    """The disturbances of one run: by the number of the effect, or of the first times that a failpoint is reached.

    `outages`: times in which the store does not answer, and whether it then still works. `has_unknown_failures`: a call
    of the store that fails without an effect ends with an unknown outcome, as one whose answer is lost.
    """

    by_effect_number: dict[int, Disturbance]
    by_periodic_number: dict[int, Disturbance]
    by_failpoint: dict[str, tuple[Disturbance, ...]] = {}
    outages: tuple[tuple[float, float, bool], ...] = ()
    has_unknown_failures: bool = False


def draw_failpoint_disturbances(random: Random, focus: tuple[str, ...] = ()) -> dict[str, tuple[Disturbance, ...]]:
    """Draws a disturbance for the first time that one failpoint is reached, so that rare ones are disturbed, too.

    `focus`: parts of the names of the failpoints that only few runs reach, and this one.
    """
    if random.random() >= (0.7 if focus else 0.25):
        return {}
    names = sorted(name for name in list_failpoints() if not focus or any(part in name for part in focus))
    return {random.choice(names): (_draw_disturbance(random),)}


def draw_disturbances(random: Random) -> DisturbancePlan:
    count = random.choice((0, 1, 1, 1, 2, 2, 3, 5))
    periodic_count = random.choice((0, 0, 0, 1, 2))
    outages = []
    if random.random() < 0.12:
        started_at = random.uniform(0.0, 12.0)
        outages.append((started_at, started_at + random.choice((0.5, 3.0, 12.0)), random.random() < 0.4))
    return DisturbancePlan(
        by_effect_number={_draw_effect_number(random): _draw_disturbance(random) for _ in range(count)},
        by_periodic_number={
            random.randint(1, MAX_PERIODIC_NUMBER): _draw_disturbance(random) for _ in range(periodic_count)
        },
        outages=tuple(outages),
    )


def add_unknown_failures(plan: DisturbancePlan, random: Random) -> DisturbancePlan:
    """Lets some calls of the store fail without an effect in some runs, and with an unknown outcome."""
    if random.random() >= UNKNOWN_FAILURE_SHARE:
        return plan
    failures = {_draw_effect_number(random): Disturbance(DisturbanceKind.FAIL_BEFORE) for _ in range(2)}
    return replace(plan, by_effect_number=failures | plan.by_effect_number, has_unknown_failures=True)


def delay_first_answer(plan: DisturbancePlan, random: Random) -> DisturbancePlan:
    """Delays the answer to the first order, perhaps until its replica has lost its lease and regained it."""
    delay = Disturbance(DisturbanceKind.DELAY_AFTER, random.uniform(5.0, 20.0))
    return replace(plan, by_failpoint={SEND_ORDER: (delay,)})


def pause_first_sender(random: Random) -> DisturbancePlan:
    """Pauses the replica that sends the first order until another one has abandoned that order."""
    pause = Disturbance(DisturbanceKind.PAUSE_AFTER, random.uniform(15.0, 20.0))
    return DisturbancePlan(by_effect_number={}, by_periodic_number={}, by_failpoint={SEND_ORDER: (pause,)})


def _draw_effect_number(random: Random) -> int:
    """Draws small numbers more often: every run has first effects, and few have many."""
    return random.randint(1, random.choice((6, 15, MAX_EFFECT_NUMBER)))


def _draw_disturbance(random: Random) -> Disturbance:
    kind = random.choices(list(KIND_WEIGHTS), list(KIND_WEIGHTS.values()))[0]
    return Disturbance(kind, random.choice(DELAYS_SECONDS))
