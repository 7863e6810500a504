"""The actions of the operators of a run, and the clocks of its replicas: drawn from the seed."""

from enum import StrEnum
from random import Random

from msgspec import Struct

from tests.explore.sellers_config import ACCOUNTS


class AccountState(StrEnum):
    """How an account is configured."""

    NO_KEY = "without a key"
    MOVED = "with another base URL"


class AccountChange(Struct, frozen=True, kw_only=True):
    """A change of one account in the configuration, which is undone later.

    `is_everywhere`: in the files of all replicas, instead of every second one. The replicas reload their files one
    after the other, `reload_interval` seconds apart.
    """

    account: str
    state: AccountState
    starts_at: float
    ends_at: float
    is_everywhere: bool
    reload_interval: float


class Drain(Struct, frozen=True, kw_only=True):
    """A graceful shutdown of one replica. `hurries_after`: when the operator does not want to wait any longer.

    `awaits_claim`: it begins while the replica claims jobs, the next time that there are due jobs.
    """

    starts_at: float
    timeout: float
    hurries_after: float | None
    awaits_claim: bool


class OperationsPlan(Struct, frozen=True, kw_only=True):
    """`clock_offsets`: how far the system clocks of the replicas are off. `clock_steps`: when each is set, and how far.

    `has_cleanup`: after the end of all jobs, the time passes after which they are deleted.
    """

    account_changes: tuple[AccountChange, ...] = ()
    drains: tuple[Drain, ...] = ()
    clock_offsets: tuple[float, ...] = (0.0,)
    clock_steps: tuple[tuple[float, float], ...] = ()
    has_cleanup: bool = False


def draw_operations(random: Random) -> OperationsPlan:
    has_skew = random.random() < 0.3
    return OperationsPlan(
        account_changes=tuple(_draw_account_change(random) for _ in range(random.choice((0, 0, 0, 1)))),
        drains=tuple(_draw_drain(random) for _ in range(random.choice((0, 0, 0, 1)))),
        clock_offsets=tuple(random.uniform(-3.0, 3.0) for _ in range(3)) if has_skew else (0.0,),
        clock_steps=((random.uniform(0.0, 15.0), random.uniform(-30.0, 30.0)),) if random.random() < 0.08 else (),
        has_cleanup=random.random() < 0.06,
    )


def _draw_account_change(random: Random) -> AccountChange:
    starts_at = random.choice((0.0, random.uniform(0.0, 8.0)))
    return AccountChange(
        account=random.choice(ACCOUNTS),
        state=random.choice((AccountState.NO_KEY, AccountState.NO_KEY, AccountState.MOVED)),
        starts_at=starts_at,
        ends_at=starts_at + random.choice((3.0, 10.0, 40.0)),
        is_everywhere=random.random() < 0.4,
        reload_interval=random.choice((0.0, 1.5)),
    )


def _draw_drain(random: Random) -> Drain:
    return Drain(
        starts_at=random.uniform(0.0, 10.0),
        timeout=random.choice((0.0, 2.0, 30.0)),
        hurries_after=random.choice((None, None, 0.5)),
        awaits_claim=random.random() < 0.4,
    )
