"""The configuration of the gateways of a chaos run, and edits of it while they run."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from msgspec.structs import replace

from tests.chaos import chaos_config
from tests.harness.timings import CHAOS_TIMINGS, FAST_TIMINGS, change_timing

LEASE_SECONDS = 3.0
# The targets of the team's webhooks. Both get a webhook of each job; the second one is down at times.
WEBHOOK_TARGETS = ("steady", "flaky")
# Nothing that a seller forgets keeps a job open for longer than a run can wait. Sellers are never avoided: each
# failpoint of each adapter is to be passed.
TIMING = replace(
    change_timing(
        CHAOS_TIMINGS,
        orders={
            "min_attempt_timeout_seconds": 20.0,
            "submit_timeout_seconds": 6.0,
            "query_timeout_seconds": 4.0,
            "upload_request_timeout_seconds": 6.0,
            "upload_timeout_seconds": 15.0,
        },
        polls={"missing_order_grace_seconds": 5.0, "max_interval_seconds": 3.0},
        fetches={"max_backoff_seconds": 2.0, "max_fetch_seconds": 30.0},
        workers={"max_backoff_seconds": 5.0},
        webhooks={
            "interval_seconds": 0.5,
            "lease_seconds": 4.0,
            "request_timeout_seconds": 3.0,
            # Within the time of a run: targets are down for a few seconds, and not for hours.
            "retry_delays_seconds": (0.5, 1.0, 2.0, 3.0, 5.0, *[8.0] * 10),
        },
        store={"restart_grace_seconds": 3.0, "command_timeout_seconds": 3.0},
        maintenance={
            "audit_interval_seconds": 10.0,
            "audit_check_interval_seconds": 2.0,
            "store_metric_interval_seconds": 1.0,
        },
    ),
    health=FAST_TIMINGS.health,
)


class RunConfig:
    """The files of all gateways of a run. `moderation_url`: of the server that is asked about requests and images."""

    def __init__(
        self, folder: Path, sandbox_url: str, receiver_url: str, moderation_url: str, wait_replicas: int = 0
    ) -> None:
        self.folder = chaos_config.write_config(folder, sandbox_url, LEASE_SECONDS)
        targets = ", ".join(f'{name}: {{url: "{receiver_url}/{name}", private: true}}' for name in WEBHOOK_TARGETS)
        webhooks = f'webhooks: {{secrets: ["env:IGW_WEBHOOKS"], targets: {{{targets}}}}}'
        chaos_config.replace_text(folder / "teams.yaml", "  chaos: {", f"  chaos: {{{webhooks}, ")
        hooks = ", ".join(f'{name}: {{url: "{moderation_url}/{name}", private: true}}' for name in ("before", "after"))
        further_options = f"store: {{wait_replicas: {wait_replicas}}}\nmoderate: {{{hooks}}}\njobs:"
        chaos_config.replace_text(folder / "gateway.yaml", "jobs:", further_options)
        # The price of an image has that of its prompt, which an order of several images would pay once.
        chaos_config.replace_text(folder / "offers" / "openai.yaml", "images_per_order: 10", "images_per_order: 1")
        self._undo: Callable[[], None] | None = None

    def edit(self, random: Random) -> str:
        """Makes one edit, which `restore` takes back. Returns what it is."""
        assert self._undo is None
        edit = random.choice((self._reverse_sellers, self._break_syntax, self._remove_key, self._raise_limits))
        return edit()

    def restore(self) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None

    def _replace(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        chaos_config.replace_text(path, old, new)
        self._undo = lambda: chaos_config.replace_text(path, new, old)

    def _reverse_sellers(self) -> str:
        self._replace(
            "policies.yaml",
            "[runflow-runs, runapi, openai, runflow-run]",
            "[runflow-run, openai, runapi, runflow-runs]",
        )
        return "the order of sellers is reversed"

    def _break_syntax(self) -> str:
        self._replace("models.yaml", "models:\n", "models: [\n")
        return "models.yaml is not valid YAML"

    def _remove_key(self) -> str:
        self._replace("accounts.yaml", "env:RUNAPI_API_KEY", "env:MISSING_KEY")
        return "the key of runapi is missing"

    def _raise_limits(self) -> str:
        self._replace(
            "accounts.yaml", 'key: "env:OPENAI_API_KEY"', 'limits: {concurrency: 50}, key: "env:OPENAI_API_KEY"'
        )
        return "openai has another limit"
