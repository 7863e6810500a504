"""The result of fetching one image: it is stored, or the operator's moderation withholds it."""

from collections.abc import Sequence

from msgspec import Struct

from gateway.engine.job_documents import StoredImage
from gateway.engine.moderation import HookDecision, HookVerdict
from providers.faults import FaultKind

_FAULTS_BY_VERDICT = {
    HookVerdict.REFUSED: FaultKind.IMAGE_WITHHELD,
    HookVerdict.UNAVAILABLE: FaultKind.IMAGE_UNMODERATED,
}


class StoredResult(Struct, frozen=True, kw_only=True):
    """A stored image, whether it matches the order, and the warnings for the team. `moderation_seconds`: how long the
    operator's moderation took."""

    image: StoredImage
    matches_order: bool
    warnings: tuple[str, ...]
    moderation_seconds: float


class WithheldResult(Struct, frozen=True, kw_only=True):
    """An image that the seller delivered and the operator's moderation withholds: it is not stored."""

    index: int
    decision: HookDecision
    matches_order: bool
    moderation_seconds: float

    @property
    def fault(self) -> FaultKind:
        return _FAULTS_BY_VERDICT[self.decision.verdict]

    @property
    def note(self) -> str:
        """Says to the team why the image is withheld."""
        if self.fault is FaultKind.IMAGE_UNMODERATED:
            return f"{self.fault}: image {self.index}: the moderation hook 'after' gave no valid answer"
        reason = f": {self.decision.reason}" if self.decision.reason else ""
        return f"{self.fault}: image {self.index}: refused by the moderation hook 'after'{reason}"


FetchResult = StoredResult | WithheldResult


def select_missing_fault(withheld: Sequence[WithheldResult], is_any_missing: bool) -> FaultKind:
    """Selects the fault of the images that are not stored. A refusal comes first, since the team has to change its
    request."""
    if not withheld:
        return FaultKind.IMAGES_EXPIRED if is_any_missing else FaultKind.NO_IMAGES
    is_refused = any(result.fault is FaultKind.IMAGE_WITHHELD for result in withheld)
    return FaultKind.IMAGE_WITHHELD if is_refused else FaultKind.IMAGE_UNMODERATED
