"""The table of fault verdicts is complete and consistent."""

import pytest

from providers.faults import (
    FAULT_DESCRIPTIONS,
    VERDICTS,
    ChargeStatus,
    Fault,
    FaultKind,
    HealthScope,
    PartConsequence,
    PollPolicy,
    detect_content_refusal,
    fault_kind_from_status,
)


def test_every_fault_kind_has_verdict_and_description() -> None:
    assert set(VERDICTS) == set(FAULT_DESCRIPTIONS) == set(FaultKind)


@pytest.mark.parametrize("kind", list(FaultKind))
def test_charge_status_limits_consequence(kind: FaultKind) -> None:
    """An order that may have been charged is never repeated automatically; an uncharged one may fail over."""
    verdict = VERDICTS[kind]
    allowed = {
        ChargeStatus.NOT_CHARGED: {PartConsequence.FAIL_OVER, PartConsequence.FINAL},
        ChargeStatus.UNKNOWN: {PartConsequence.STOP},
        ChargeStatus.CHARGED: {PartConsequence.FAIL_OVER, PartConsequence.FAIL_PART},
    }
    assert verdict.consequence in allowed[verdict.charge_status]


def test_reported_cost_outranks_fault_kind() -> None:
    """Failed orders are not charged, unless the seller reports a cost."""
    assert Fault(kind=FaultKind.ORDER_FAILED).charge_status is ChargeStatus.NOT_CHARGED
    assert Fault(kind=FaultKind.ORDER_FAILED, cost=0).charge_status is ChargeStatus.NOT_CHARGED
    assert Fault(kind=FaultKind.ORDER_FAILED, cost=133_000).charge_status is ChargeStatus.CHARGED
    assert Fault(kind=FaultKind.ORDER_CANCELLED, cost=133_000).charge_status is ChargeStatus.CHARGED


def test_content_refusal_fails_part_and_affects_no_health() -> None:
    verdict = VERDICTS[FaultKind.CONTENT_REFUSED]
    assert (verdict.consequence, verdict.health_scope) == (PartConsequence.FINAL, HealthScope.NONE)


@pytest.mark.parametrize("kind", [FaultKind.IMAGE_WITHHELD, FaultKind.IMAGE_UNMODERATED])
def test_withheld_image_is_paid_and_ordered_nowhere_else_and_affects_no_health(kind: FaultKind) -> None:
    verdict = VERDICTS[kind]
    assert (verdict.charge_status, verdict.consequence) == (ChargeStatus.CHARGED, PartConsequence.FAIL_PART)
    assert verdict.health_scope is HealthScope.NONE


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_order"),
        (401, "invalid_key"),
        (402, "no_credit"),
        (403, "forbidden"),
        (404, "not_found"),
        (405, "invalid_order"),
        (408, "response_lost"),
        (409, "idempotency_conflict"),
        (410, "not_found"),
        (418, "invalid_order"),
        (422, "invalid_order"),
        (429, "rate_limited"),
        (455, "server_error"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "overloaded"),
        (504, "server_error"),
        (529, "server_error"),
        (301, "server_error"),
        (100, "server_error"),
        (999, "server_error"),
    ],
)
def test_http_status_maps_to_fault_kind(status: int, kind: str) -> None:
    assert fault_kind_from_status(status) == kind


@pytest.mark.parametrize("status", [*range(500, 600), *range(300, 400)])
def test_status_that_may_hide_an_order_is_unknown_charge(status: int) -> None:
    assert VERDICTS[fault_kind_from_status(status)].charge_status is ChargeStatus.UNKNOWN


def test_only_ended_orders_are_accepted_as_final_when_polling() -> None:
    """An invalid key or a rate limit says nothing about the order that is polled."""
    final_kinds = {kind for kind, verdict in VERDICTS.items() if verdict.poll_policy is PollPolicy.ACCEPT_AS_FINAL}
    assert final_kinds == {
        FaultKind.CONTENT_REFUSED,
        FaultKind.ORDER_FAILED,
        FaultKind.ORDER_CANCELLED,
        FaultKind.ORDER_TIMED_OUT,
        FaultKind.NO_IMAGES,
        FaultKind.IMAGES_EXPIRED,
        FaultKind.IMAGE_WITHHELD,
        FaultKind.IMAGE_UNMODERATED,
    }


@pytest.mark.parametrize(
    "text",
    [
        "Your request was rejected by the safety system.",
        "moderation_blocked",
        "This violates our Content Policy",
        "content_policy_violation",
        "flagged by safety filter",
        "NSFW content detected",
        "against our usage policies",
    ],
)
def test_content_refusal_messages_are_recognized(text: str) -> None:
    for kind in (FaultKind.INVALID_ORDER, FaultKind.ORDER_FAILED):
        assert (
            detect_content_refusal(kind, text, None)
            is detect_content_refusal(kind, None, text)
            is FaultKind.CONTENT_REFUSED
        )


@pytest.mark.parametrize(
    "text", ["", "Validation failed", "image dimensions exceed 4096x4096", "provider error", "timeout"]
)
def test_other_messages_are_not_content_refusals(text: str) -> None:
    assert detect_content_refusal(FaultKind.ORDER_FAILED, None, text) is FaultKind.ORDER_FAILED


@pytest.mark.parametrize(
    "kind", [FaultKind.SERVER_ERROR, FaultKind.RESPONSE_LOST, FaultKind.RATE_LIMITED, FaultKind.ORDER_CANCELLED]
)
def test_message_does_not_turn_unclear_fault_into_refusal(kind: FaultKind) -> None:
    """A proxy's error page may mention anything."""
    assert detect_content_refusal(kind, "moderation_blocked") is kind
