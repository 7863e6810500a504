"""The plans of the clients of a chaos run: drawn from the seed."""

from enum import StrEnum
from random import Random

from msgspec import Struct

from tests.chaos.chaos_config import PROMPT_LENGTH
from tests.chaos.program.run_options import RunOptions

POLICIES = ("runflow-runs", "runflow-run", "runapi", "openai", "any")
EDIT_POLICIES = ("runflow-runs", "runflow-run", "runapi")
LINES_PER_BATCH = 8


class ClientKind(StrEnum):
    """How a client behaves. All but `KEYLESS` repeat a request until it is answered."""

    JOB = "job with a key"
    EDIT = "edit with a key"
    IMAGES = "images with a key"
    SDK_RETRY = "SDK's retries without a key"
    KEYLESS = "one request without a key"
    CANCEL = "cancels"
    DELETE = "deletes what its job contains"
    LEAVE = "leaves, and does not return"
    LEAVE_AND_RETURN = "leaves, and returns with its key"
    BATCH = "batch"


KIND_WEIGHTS = {
    ClientKind.JOB: 25,
    ClientKind.EDIT: 14,
    ClientKind.IMAGES: 12,
    ClientKind.SDK_RETRY: 10,
    ClientKind.KEYLESS: 6,
    ClientKind.CANCEL: 10,
    ClientKind.DELETE: 5,
    ClientKind.LEAVE: 5,
    ClientKind.LEAVE_AND_RETURN: 8,
    ClientKind.BATCH: 1,
}


class PlannedClient(Struct, frozen=True, kw_only=True):
    """`name`: begins its prompt, and that of each line of a batch. `seed`: of what it draws itself."""

    name: str
    kind: ClientKind
    start_at: float
    policy: str
    image_count: int
    seed: int

    @property
    def job_count(self) -> int:
        """How many jobs it creates for certain."""
        return {ClientKind.BATCH: LINES_PER_BATCH, ClientKind.LEAVE: 0, ClientKind.KEYLESS: 0}.get(self.kind, 1)

    def make_prompt(self, line: int | None = None) -> str:
        """Makes a prompt that no other request has. All have one length, since OpenAI charges for it."""
        name = self.name if line is None else f"{self.name}-{line}"
        return f"{name} paints a lighthouse ".ljust(PROMPT_LENGTH, ".")


def draw_clients(options: RunOptions) -> list[PlannedClient]:
    """Draws clients with at least as many jobs as the options ask for, in the order of their start."""
    random = Random(f"load {options.seed}")  # noqa: S311 - it must be repeatable
    clients: list[PlannedClient] = []
    job_count = 0
    while job_count < options.jobs:
        plan = _draw_client(random, len(clients), options)
        clients.append(plan)
        job_count += plan.job_count
    return sorted(clients, key=lambda plan: plan.start_at)


def _draw_client(random: Random, number: int, options: RunOptions) -> PlannedClient:
    # The first one is a batch, so that small runs have one.
    drawn = random.choices(list(KIND_WEIGHTS), list(KIND_WEIGHTS.values()))[0]
    kind = ClientKind.BATCH if number == 0 else drawn
    return PlannedClient(
        name=f"client-{number}",
        kind=kind,
        start_at=random.uniform(0.0, 0.95 * options.trouble_seconds),
        policy=random.choice(EDIT_POLICIES if kind is ClientKind.EDIT else POLICIES),
        image_count=1 if kind is ClientKind.BATCH else random.choice((1, 1, 1, 2, 3)),
        seed=random.randrange(1 << 32),
    )
