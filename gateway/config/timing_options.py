"""The section `timing` of gateway.yaml: the times that operators may set."""

from typing import Annotated, TypeVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from gateway.config.schema_base import ConfigStruct
from gateway.timeouts_and_intervals import MAX_OPEN_SECONDS, Timing

StructT = TypeVar("StructT", bound=Struct)
DEFAULTS = Timing()


# A job's longest times together are shorter than a removed offer drains (`catalogue.DRAINING_TTL_SECONDS`).
MAX_ORDER_SECONDS = 21_600.0


class TimingConfig(ConfigStruct, frozen=True, kw_only=True):
    """How long the gateway waits for sellers, how long it avoids them after failures, and how often it does periodic
    work."""

    min_order_seconds: Annotated[
        float,
        Meta(
            ge=10,
            le=MAX_ORDER_SECONDS,
            description="Minimum seconds that an order may take, also at a fast seller. Default 420.0; shorter "
            "abandons orders that the seller may still finish and charge. A reload applies it to new jobs.",
        ),
    ] = DEFAULTS.orders.min_attempt_timeout_seconds
    reconcile_seconds: Annotated[
        float,
        Meta(
            ge=10,
            le=MAX_ORDER_SECONDS,
            description="Seconds for which an order is searched for after its response was lost. Default 120.0; "
            "shorter books more of them as suspected, longer delays the job. A reload applies it to new jobs.",
        ),
    ] = DEFAULTS.jobs.reconcile_timeout_seconds
    slot_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3_600,
            description="Seconds that an order waits for the limits of an account before the next seller is tried. "
            "Default 30.0.",
        ),
    ] = DEFAULTS.orders.slot_timeout_seconds
    min_poll_seconds: Annotated[
        float,
        Meta(
            ge=0.05,
            le=60,
            description="Minimum seconds between two polls of an order. Default 0.2; larger delays fast orders, "
            "smaller costs sellers more requests.",
        ),
    ] = DEFAULTS.polls.min_interval_seconds
    max_poll_seconds: Annotated[
        float,
        Meta(
            ge=0.05,
            le=600,
            description="Maximum seconds between two polls of an order. Default 10.0; larger delays slow orders.",
        ),
    ] = DEFAULTS.polls.max_interval_seconds
    outage_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=MAX_OPEN_SECONDS,
            description="Seconds without orders to a seller after an outage. Doubles while it lasts. Default 30.0. "
            "Read at start only.",
        ),
    ] = DEFAULTS.health.outage.initial_seconds
    max_outage_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=MAX_OPEN_SECONDS,
            description="Maximum of the doubled `outage_seconds`. Default 300.0. Read at start only.",
        ),
    ] = DEFAULTS.health.outage.max_seconds
    refused_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=MAX_OPEN_SECONDS,
            description="Seconds without orders to an account that refused its key or has no credit. Doubles while it "
            "lasts. Default 60.0. Read at start only.",
        ),
    ] = DEFAULTS.health.refused.initial_seconds
    max_refused_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=MAX_OPEN_SECONDS,
            description="Maximum of the doubled `refused_seconds`. Default 900.0. Read at start only.",
        ),
    ] = DEFAULTS.health.refused.max_seconds
    unfaithful_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=MAX_OPEN_SECONDS,
            description="Seconds for which a cell that delivered other images than ordered is ranked last. Doubles "
            "while it lasts. Default 300.0; shorter pays for more probes. Read at start only.",
        ),
    ] = DEFAULTS.health.unfaithful.initial_seconds
    max_unfaithful_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=MAX_OPEN_SECONDS,
            description="Maximum of the doubled `unfaithful_seconds`. Default 21600.0. Read at start only.",
        ),
    ] = DEFAULTS.health.unfaithful.max_seconds
    claim_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=60,
            description="Seconds between two claims of due jobs. Default 1.0; larger delays jobs of crashed replicas, "
            "smaller costs the store more requests. Read at start only.",
        ),
    ] = DEFAULTS.claims.interval_seconds
    cleanup_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="Seconds between two deletions of expired jobs and images. Default 600.0. Read at start only.",
        ),
    ] = DEFAULTS.maintenance.cleanup_interval_seconds

    def check_consistency(self) -> str | None:
        pairs = [("min_poll_seconds", "max_poll_seconds")]
        pairs += [(f"{kind}_seconds", f"max_{kind}_seconds") for kind in ("outage", "refused", "unfaithful")]
        for low, high in pairs:
            if getattr(self, low) > getattr(self, high):
                return f"{low} cannot be greater than {high}: {getattr(self, low):g} > {getattr(self, high):g}"
        return None


# The place of each option in `Timing`.
_PATHS: dict[str, tuple[str, ...]] = {
    "min_order_seconds": ("orders", "min_attempt_timeout_seconds"),
    "reconcile_seconds": ("jobs", "reconcile_timeout_seconds"),
    "slot_seconds": ("orders", "slot_timeout_seconds"),
    "min_poll_seconds": ("polls", "min_interval_seconds"),
    "max_poll_seconds": ("polls", "max_interval_seconds"),
    "outage_seconds": ("health", "outage", "initial_seconds"),
    "max_outage_seconds": ("health", "outage", "max_seconds"),
    "refused_seconds": ("health", "refused", "initial_seconds"),
    "max_refused_seconds": ("health", "refused", "max_seconds"),
    "unfaithful_seconds": ("health", "unfaithful", "initial_seconds"),
    "max_unfaithful_seconds": ("health", "unfaithful", "max_seconds"),
    "claim_seconds": ("claims", "interval_seconds"),
    "cleanup_seconds": ("maintenance", "cleanup_interval_seconds"),
}


def configure_timing(base: Timing, config: TimingConfig) -> Timing:
    """Returns `base` with the options that differ from their defaults."""
    defaults = TimingConfig()
    for option, path in _PATHS.items():
        if (value := getattr(config, option)) != getattr(defaults, option):
            base = _replace_at(base, path, value)
    return base


def reload_timing(current: Timing, configured: Timing) -> Timing:
    """Returns `current` with the parts that components read at each use. The others apply at the next start."""
    return replace(current, jobs=configured.jobs, orders=configured.orders, polls=configured.polls)


def _replace_at(struct: StructT, path: tuple[str, ...], value: float) -> StructT:
    name, *rest = path
    return replace(struct, **{name: _replace_at(getattr(struct, name), tuple(rest), value) if rest else value})
