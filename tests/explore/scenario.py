"""The actions of the clients of one run: drawn from the seed."""

from random import Random

from msgspec import Struct
from msgspec.structs import replace

from tests.explore.operations import OperationsPlan, draw_operations
from tests.explore.seller_scripts import SellerMood
from tests.explore.sellers_config import POLICY_COUNT, find_policy

# Some are longer than a lease: meanwhile another replica claims the jobs.
PAUSES_SECONDS = (1.0, 8.0, 12.0, 20.0)
MOOD_SHARE, LATE_IMAGES_SHARE, CONTRADICTION_SHARE = 0.3, 0.015, 0.03


class ClientPlan(Struct, frozen=True, kw_only=True):
    """One client and its request. Times are seconds from its start; None: it does not happen.

    `input_count`: the input images of an edit; 0 if it generates. `connection_ends_after`: its first connection ends so
    long after it has sent the request. `repeats_first`: it sends the request of the first client. `deletes_after`: it
    deletes its job, however far that is.
    """

    starts_at: float
    image_count: int
    policy: str
    has_key: bool
    has_webhook: bool
    max_tries: int
    cancels_after: float | None
    disconnects_after: float | None
    input_count: int = 0
    has_large_input: bool = False
    has_mask: bool = False
    connection_ends_after: float | None = None
    repeats_first: bool = False
    deletes_after: float | None = None


class Scenario(Struct, frozen=True, kw_only=True):
    """One run. `kill_times`: when a replica is killed, at any point of its work. `pauses`: when one is paused, and how
    long. `has_moderation`: the team has both hooks. `mood`: of all sellers. `has_quick_fetches`: images are expected to
    be fetched long before the deadline, so that workers do not first save that they are ready. `has_contradictions`:
    sellers contradict themselves."""

    clients: tuple[ClientPlan, ...]
    replica_count: int
    kill_times: tuple[float, ...]
    pauses: tuple[tuple[float, float], ...] = ()
    restart_seconds: float
    has_callbacks: bool
    is_calm: bool
    operations: OperationsPlan = OperationsPlan()
    has_moderation: bool = False
    mood: SellerMood = SellerMood.USUAL
    has_quick_fetches: bool = False
    has_contradictions: bool = False


def draw_scenario(random: Random) -> Scenario:
    return Scenario(
        clients=tuple(_draw_client(random) for _ in range(random.choice((1, 1, 1, 2)))),
        replica_count=random.choice((1, 2, 2)),
        kill_times=tuple(random.uniform(0.0, 8.0) for _ in range(random.choice((0, 0, 0, 1, 1, 2)))),
        pauses=tuple(
            (random.uniform(0.0, 6.0), random.choice(PAUSES_SECONDS)) for _ in range(random.choice((0, 0, 0, 1, 1)))
        ),
        restart_seconds=random.choice((0.5, 4.0, 9.0)),
        has_callbacks=random.random() < 0.75,
        is_calm=random.random() < 0.25,
    )


def _draw_client(random: Random) -> ClientPlan:
    return ClientPlan(
        starts_at=random.choice((0.0, 0.0, 0.5)),
        image_count=random.choice((1, 1, 2, 3, 5, 6)),
        policy=f"policy-{random.randrange(POLICY_COUNT)}",
        has_key=random.random() < 0.5,
        has_webhook=random.random() < 0.3,
        max_tries=random.choice((1, 3, 5)),
        cancels_after=random.uniform(0.0, 6.0) if random.random() < 0.12 else None,
        disconnects_after=random.uniform(0.0, 5.0) if random.random() < 0.15 else None,
    )


def add_variations(scenario: Scenario, random: Random) -> Scenario:
    """Adds edits, lost connections, deletions, repeated requests and operations. They have random numbers of their
    own."""
    clients = [_vary_client(client, random) for client in scenario.clients]
    if len(clients) > 1 and random.random() < 0.25:
        clients[1] = replace(clients[0], starts_at=clients[1].starts_at, repeats_first=True)
    return replace(scenario, clients=tuple(clients), operations=draw_operations(random))


def _vary_client(client: ClientPlan, random: Random) -> ClientPlan:
    connection_ends_after = random.choice((0.0, 0.002, 0.005, 0.02)) if random.random() < 0.15 else None
    deletes_after = random.uniform(0.0, 12.0) if random.random() < 0.15 else None
    client = replace(client, connection_ends_after=connection_ends_after, deletes_after=deletes_after)
    if random.random() >= 0.3:
        return client
    return replace(
        client,
        input_count=random.choice((1, 1, 2)),
        has_large_input=random.random() < 0.3,
        has_mask=random.random() < 0.25,
    )


def draw_mood(scenario: Scenario, random: Random) -> Scenario:
    """Gives the sellers of some runs a mood, and adds what makes that mood expensive for a wrong engine: cancellations
    while orders are lost, and leases that change hands while answers are slow."""
    if random.random() >= MOOD_SHARE:
        return scenario
    mood = random.choice([mood for mood in SellerMood if mood is not SellerMood.USUAL])
    scenario = replace(scenario, mood=mood, is_calm=False)
    match mood:
        case SellerMood.LOSING:
            clients = tuple(replace(client, cancels_after=_draw_cancellation(random)) for client in scenario.clients)
            return replace(scenario, clients=clients)
        case SellerMood.SLOW:
            return _exchange_lease(scenario, random)
    return scenario


def _draw_cancellation(random: Random) -> float | None:
    return random.uniform(0.2, 10.0) if random.random() < 0.6 else None


def _exchange_lease(scenario: Scenario, random: Random) -> Scenario:
    """Lets the lease of a job change hands, and return: each of two replicas is paused for longer than a lease.

    The orders are those of a seller to which lost ones are sent again.
    """
    policy = find_policy(random.choice(("runs-with-replay", "tasks")))
    clients = tuple(replace(client, policy=policy) for client in scenario.clients)
    pauses = (0.3, 8.0), (random.uniform(8.2, 9.5), 12.0)
    return replace(scenario, clients=clients, replica_count=2, kill_times=(), pauses=pauses)


def add_contradictions(scenario: Scenario, random: Random) -> Scenario:
    """Lets sellers contradict themselves. Callbacks often arrive at the replica that did not send the order."""
    policy = find_policy(random.choice(("runs", "runs-with-replay", "tasks")))
    clients = tuple(replace(client, policy=policy) for client in scenario.clients)
    return replace(scenario, clients=clients, replica_count=2, has_callbacks=True, has_contradictions=True)


def delete_before_late_images(scenario: Scenario, random: Random) -> Scenario:
    """Lets a client delete its job while a paused replica may still receive images. The last client keeps the run
    going."""
    client = replace(
        _draw_client(random),
        starts_at=0.0,
        policy=find_policy("openai"),
        deletes_after=random.uniform(8.0, 14.0),
        cancels_after=None,
        disconnects_after=None,
    )
    last_client = replace(client, starts_at=24.0, deletes_after=None)
    return Scenario(
        clients=(client, last_client),
        replica_count=2,
        kill_times=(),
        restart_seconds=scenario.restart_seconds,
        has_callbacks=scenario.has_callbacks,
        is_calm=True,
    )
