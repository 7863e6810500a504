"""The slots in which webhooks are sent: each target, each team, and the failing targets together, have a share."""

from collections import Counter

import pytest

from gateway.timeouts_and_intervals import WebhookTiming
from gateway.webhooks.send_slots import (
    MAX_FAILING_SENDS,
    MAX_FAILING_TEAM_SENDS,
    MAX_KNOWN_TARGETS,
    MAX_SENDS,
    MAX_TARGET_SENDS,
    MAX_TEAM_SENDS,
    Group,
    SendSlots,
)
from gateway.webhooks.webhook_records import WebhookRecord, make_delivery_id

MAX_QUEUE_SECONDS = WebhookTiming().max_queue_seconds


def make_record(host: str, team: str = "acme", tries: int = 0, target: str = "") -> WebhookRecord:
    return WebhookRecord(
        id=make_delivery_id("job_1-completed", target),
        team=team,
        created_at=1.0,
        event="job.completed",
        host=host,
        tries=tries,
        target=target,
    )


def count_acquired(slots: SendSlots, host: str, team: str = "acme", count: int = 100) -> int:
    return sum(bool(slots.try_acquire(make_record(host, team))) for _ in range(count))


def make_busy(slots: SendSlots, record: WebhookRecord) -> None:
    """Makes so many webhooks of the target due that it gets as many slots as it may."""
    slots.record_attempt(record, 1.0, has_failed=False)
    slots.set_due([record] * 100)


def test_target_gets_one_webhook_after_the_other() -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    slots.set_due([make_record("unknown")] * 100)
    assert count_acquired(slots, "unknown") == 1, "nothing is known about its speed"
    for number in range(5):
        slots.record_attempt(make_record("fast"), 0.05, has_failed=False)
        slots.set_due([make_record("fast")] * 10 * number)
    assert count_acquired(slots, "fast") == 1


@pytest.mark.parametrize(
    ("due_count", "slot_count"), [(1, 1), (4, 1), (5, 2), (8, 2), (20, 5), (32, 8), (500, MAX_TARGET_SENDS)]
)
def test_target_gets_more_slots_if_its_webhooks_would_take_long(due_count: int, slot_count: int) -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    slow = make_record("slow")
    slots.record_attempt(slow, MAX_QUEUE_SECONDS / 4, has_failed=False)
    slots.set_due([slow] * due_count)
    assert count_acquired(slots, "slow") == slot_count


def test_recovered_target_has_the_duration_of_its_new_attempts() -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    target = make_record("recovered")
    slots.record_attempt(target, 10.0, has_failed=True)
    slots.record_attempt(target, 0.01, has_failed=False)
    slots.set_due([target] * 100)
    assert count_acquired(slots, "recovered") == 1


def test_failing_host_has_fewer_slots_than_a_healthy_one() -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    make_busy(slots, make_record("dead"))
    slots.record_attempt(make_record("dead"), 10.0, has_failed=True)
    assert count_acquired(slots, "dead") == 1
    make_busy(slots, make_record("dead"))
    assert count_acquired(slots, "dead") == MAX_TARGET_SENDS - 1


def test_targets_on_one_host_have_their_own_slots() -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    dead, healthy = make_record("127.0.0.1", target="dead"), make_record("127.0.0.1", target="healthy")
    make_busy(slots, healthy)
    slots.record_attempt(dead, 10.0, has_failed=True)
    assert sum(bool(slots.try_acquire(dead)) for _ in range(9)) == 1
    assert sum(bool(slots.try_acquire(healthy)) for _ in range(9)) == MAX_TARGET_SENDS
    queue = Counter[Group]()
    assert [slots.estimate_wait(record, queue) for record in (dead, dead, healthy)] == [0.0, 10.0, 0.0]


def test_unknown_host_of_a_failed_webhook_counts_as_failing() -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    acquired = [slots.try_acquire(make_record("unknown", tries=1)) for _ in range(3)]
    assert [bool(groups) for groups in acquired] == [True, False, False]
    make_busy(slots, make_record("unknown"))
    assert slots.try_acquire(make_record("unknown", tries=1))


def test_process_has_a_total_of_slots() -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    make_busy(slots, make_record("host-0", "team-0"))
    assert sum(count_acquired(slots, f"host-{number}", f"team-{number}") for number in range(100)) == MAX_SENDS
    first = make_record("host-0", "team-0")
    assert not slots.try_acquire(first)
    slots.release((("all", ""), ("team", "team-0"), ("target", "team-0 //host-0")))
    assert slots.try_acquire(first)


def test_team_leaves_slots_to_others() -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    assert sum(count_acquired(slots, f"host-{number}") for number in range(100)) == MAX_TEAM_SENDS
    make_busy(slots, make_record("host-0", "other"))
    assert count_acquired(slots, "host-0", "other") == MAX_TARGET_SENDS, "each team has its own slots of a host"


def test_failing_hosts_leave_slots_to_healthy_ones() -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    for number in range(100):
        team = "acme" if number < 50 else f"team-{number}"
        slots.record_attempt(make_record(f"dead-{number}", team), 10.0, has_failed=True)
    assert sum(count_acquired(slots, f"dead-{number}") for number in range(50)) == MAX_FAILING_TEAM_SENDS
    taken = sum(count_acquired(slots, f"dead-{number}", f"team-{number}") for number in range(50, 100))
    assert taken == MAX_FAILING_SENDS - MAX_FAILING_TEAM_SENDS
    make_busy(slots, make_record("healthy"))
    assert count_acquired(slots, "healthy") == MAX_TARGET_SENDS


def test_released_slots_leave_nothing_behind() -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    for number in range(10):
        slots.record_attempt(make_record(f"host-{number}"), 1.0, has_failed=number % 2 == 0)
        groups = slots.try_acquire(make_record(f"host-{number}"))
        # Its outcome is recorded before its slot is released.
        slots.record_attempt(make_record(f"host-{number}"), 1.0, has_failed=number % 2 == 1)
        slots.release(groups)
    assert slots._sends == {}


def test_wait_grows_with_the_duration_of_attempts() -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    for _ in range(50):
        slots.record_attempt(make_record("dead"), 10.0, has_failed=True)
        slots.record_attempt(make_record("fast"), 0.01, has_failed=False)
    queue = Counter[Group]()
    waits = {host: [slots.estimate_wait(make_record(host), queue) for _ in range(21)] for host in ("dead", "fast")}
    assert waits["dead"][-1] == pytest.approx(200.0, rel=0.1)
    assert waits["fast"][-1] == pytest.approx(0.025, rel=0.1)


def test_wait_grows_with_the_webhooks_of_the_team() -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    for number in range(64):
        slots.record_attempt(make_record(f"dead-{number}"), 100.0, has_failed=True)
    queue = Counter[Group]()
    waits = [slots.estimate_wait(make_record(f"dead-{number}"), queue) for number in range(64)]
    assert waits == sorted(waits)
    assert waits[0] == 0.0
    assert waits[-1] >= 90.0
    assert slots.estimate_wait(make_record("dead-0", "other"), Counter()) == 0.0
    assert slots.estimate_wait(make_record("healthy"), queue) == 0.0


def test_idle_hosts_are_forgotten() -> None:
    slots = SendSlots(MAX_QUEUE_SECONDS)
    slots.try_acquire(make_record("busy"))
    for number in range(3 * MAX_KNOWN_TARGETS):
        slots.record_attempt(make_record(f"host-{number}"), 1.0, has_failed=True)
    assert len(slots._targets) <= MAX_KNOWN_TARGETS
    assert "acme //busy" in slots._targets
