"""Canaries: a new seller gets a small share of a policy's requests until it has proved itself. Pure."""

from collections.abc import Iterator, Mapping
from hashlib import blake2b

from msgspec import Struct

from gateway.config.policy_schema import CanaryConfig, PolicyConfig
from gateway.routing.signals import MIN_DELIVERIES, CellSignals, is_below_conformance

# A canary may charge this much of what its configured prices say, and must deliver this share of what is ordered.
MAX_CHARGED_PERCENT, MIN_DELIVERED_PERCENT = 105, 90


class CanaryProgress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The deliveries and charges of a seller. `undelivered`: images whose orders there have ended without delivery.
    `charged`, `quoted`: micro-USD of the delivered images, by the ledger and by the configured prices."""

    images: int = 0
    undelivered: int = 0
    charged: int = 0
    quoted: int = 0


NO_PROGRESS = CanaryProgress()
# By seller.
Canaries = Mapping[str, CanaryProgress]
NO_CANARIES: Canaries = {}


class Canary(Struct, frozen=True, kw_only=True):
    """The canary of a policy, for one request. `is_chosen`: whether the request belongs to its share."""

    config: CanaryConfig
    progress: CanaryProgress
    is_chosen: bool

    def describe(self, signals: CellSignals) -> str:
        """Describes what the seller lacks to be ranked like the others; empty once it has proved itself."""
        if not (conditions := list(_list_open_conditions(self.config, self.progress, signals))):
            return ""
        return f"canary for {self.config.share} of the requests: {', '.join(conditions)}"


def find_canary(policy_name: str, policy: PolicyConfig, canaries: Canaries, draw: float) -> Canary | None:
    """Returns the canary of the policy, None if it has none. `draw`: the random number of the request."""
    if (config := policy.canary) is None:
        return None
    share = draw_share(policy_name, config.seller, draw)
    return Canary(
        config=config,
        progress=canaries.get(config.seller, NO_PROGRESS),
        is_chosen=share * 10_000 < config.share,
    )


def draw_share(policy_name: str, seller: str, draw: float) -> float:
    """Derives a number in [0, 1) from the draw of a request. It is independent of the order that a weighted policy
    makes from the same draw."""
    digest = blake2b(f"{policy_name}\n{seller}\n{draw!r}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def has_delivered(config: CanaryConfig, progress: CanaryProgress) -> bool:
    """Returns whether the seller has delivered enough images, and charged them as configured."""
    return not any(_list_open_deliveries(config, progress))


def count_delivered_share(config: CanaryConfig, progress: CanaryProgress) -> float:
    """Returns the share of the images that it has delivered, at most 1."""
    return min(1.0, progress.images / config.until)


def _list_open_deliveries(config: CanaryConfig, progress: CanaryProgress) -> Iterator[str]:
    if progress.images < config.until:
        yield f"{progress.images} of {config.until} delivered"
    ordered_images = progress.images + progress.undelivered
    if progress.images * 100 < ordered_images * MIN_DELIVERED_PERCENT:
        yield f"{progress.undelivered} of {ordered_images} ordered images not delivered"
    if progress.charged * 100 > progress.quoted * MAX_CHARGED_PERCENT:
        yield f"charges {_format_excess(progress)} more than its configured prices"


def _list_open_conditions(config: CanaryConfig, progress: CanaryProgress, signals: CellSignals) -> Iterator[str]:
    yield from _list_open_deliveries(config, progress)
    if not signals.healthy:
        yield "unhealthy"
    if not signals.faithful or is_below_conformance(signals.deliveries, signals.conformance or 0.0):
        yield signals.conformance_text
    elif (conforming := round(signals.deliveries * (signals.conformance or 0.0))) < MIN_DELIVERIES:
        yield f"{conforming} of {MIN_DELIVERIES} deliveries of this cell as ordered"


def _format_excess(progress: CanaryProgress) -> str:
    return f"{progress.charged / progress.quoted - 1:.0%}" if progress.quoted else "images"
