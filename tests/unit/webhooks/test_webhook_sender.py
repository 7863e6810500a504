"""Webhooks arrive at least once, with one id, also after crashes; and no target delays another."""

import asyncio
import json

import pytest

from gateway.timeouts_and_intervals import WebhookTiming
from gateway.webhooks.webhook_records import (
    DeliveryStatus,
    WebhookOutcome,
    encode_delivery,
    request_again,
)
from tests.harness.virtual_time_loop import in_virtual_time
from tests.unit.webhooks.webhook_world import (
    OTHER_TEAM,
    SECRET,
    TEAM,
    CrashAtCall,
    WebhookWorld,
    answer_after,
    answer_always,
    replace_crashed_replicas,
)

HOUR, DAY = 3_600.0, 86_400.0
# Of replicas that run for days: looking at the store each second would take most of the test's time.
SLOW_INTERVAL_SECONDS = 60.0


async def open_world(**options: object) -> WebhookWorld:
    world = WebhookWorld(**options)  # type: ignore[arg-type]
    await world.open()
    return world


@in_virtual_time
async def test_webhook_of_a_job_arrives_within_two_seconds() -> None:
    world = await open_world()
    await world.start_replica()
    await asyncio.sleep(0.5)
    job, ended_at = await world.end_job("https://hooks.example.com/jobs?token=t"), world.now()
    await asyncio.sleep(3.0)
    [webhook] = world.received
    assert webhook.url == "https://hooks.example.com/jobs?token=t"
    assert webhook.at - ended_at <= 2.0
    assert json.loads(webhook.body) == {
        "id": webhook.id,
        "object": "event",
        "type": "job.cancelled",
        "created_at": int(ended_at),
        "timestamp": json.loads(webhook.body)["timestamp"],
        "data": {"id": job.id, "object": "job", "status": "cancelled"},
    }
    [record] = world.list_records()
    assert (record.status, record.job, record.team, record.host) == ("delivered", job.id, TEAM, "hooks.example.com")
    assert [attempt.outcome for attempt in record.attempts] == [WebhookOutcome.DELIVERED]
    assert world.state.outbox == {}
    assert world.errors == []


@in_virtual_time
async def test_full_payload_has_the_job_and_a_deleted_job_is_thin() -> None:
    world = await open_world()
    world.payload = "full"
    world.behaviours["hooks.example.com"] = answer_after(world.now() + 20.0)
    await world.start_replica()
    job = await world.end_job()
    await asyncio.sleep(120.0)
    [webhook] = world.received
    assert json.loads(webhook.body)["data"] == {"id": job.id, "object": "job", "status": "cancelled", "n": 1}


@in_virtual_time
async def test_targets_of_the_team_get_the_events_that_they_want() -> None:
    world = await open_world()
    world.add_target("all", "https://all.example.com/")
    world.add_target("failures", "https://failures.example.com/", events=("job.failed",))
    await world.start_replica()
    await world.end_job(None)
    await world.end_job("https://own.example.com/")
    await asyncio.sleep(3.0)
    assert sorted(webhook.url for webhook in world.received) == [
        *["https://all.example.com/"] * 2,
        "https://own.example.com/",
    ]
    assert len(world.group_received()) == 3


@in_virtual_time
async def test_attempts_follow_the_schedule_and_end() -> None:
    world = await open_world(interval_seconds=SLOW_INTERVAL_SECONDS)
    world.behaviours["hooks.example.com"] = answer_always(500)
    await world.start_replica()
    await world.end_job()
    began_at = world.now()
    schedule = (0.0, *WebhookTiming().retry_delays_seconds)
    await asyncio.sleep(sum(schedule) * 1.2 + 60.0)
    times = [webhook.at for webhook in world.received]
    delays = [later - earlier for earlier, later in zip([began_at, *times], times, strict=False)]
    assert len(delays) == len(schedule) == 10
    for delay, planned in zip(delays, schedule, strict=True):
        assert planned * 0.8 <= delay <= planned * 1.2 + 2 * SLOW_INTERVAL_SECONDS
    assert {webhook.id for webhook in world.received} == {world.list_records()[0].id}
    [record] = world.list_records()
    assert record.status is DeliveryStatus.FAILED
    assert [attempt.status for attempt in record.attempts] == [500] * 10
    assert [event.delivery_status for event in world.events] == ["pending"] * 9 + ["failed"]
    await asyncio.sleep(8 * DAY)
    assert world.list_records() == []


@pytest.mark.parametrize(
    ("status", "outcome", "attempts"), [(410, WebhookOutcome.GONE, 1), (302, WebhookOutcome.REDIRECTED, 2)]
)
@in_virtual_time
async def test_gone_ends_the_delivery_and_a_redirect_is_a_failure(
    status: int, outcome: WebhookOutcome, attempts: int
) -> None:
    world = await open_world()
    world.behaviours["hooks.example.com"] = answer_always(status)
    await world.start_replica()
    await world.end_job()
    await asyncio.sleep(15.0)
    [record] = world.list_records()
    assert [attempt.outcome for attempt in record.attempts] == [outcome] * attempts
    assert record.status is (DeliveryStatus.FAILED if attempts == 1 else DeliveryStatus.PENDING)


@in_virtual_time
async def test_without_a_secret_nothing_is_sent_until_there_is_one() -> None:
    world = await open_world(secrets=())
    await world.start_replica()
    await world.end_job()
    await asyncio.sleep(3.0)
    assert world.received == []
    assert world.list_records()[0].attempts[0].outcome is WebhookOutcome.NO_SECRET
    world.secrets = (SECRET,)
    await asyncio.sleep(10.0)
    assert len(world.received) == 1


@in_virtual_time
async def test_removed_target_and_deleted_job_end_the_delivery() -> None:
    world = await open_world()
    world.add_target("all", "https://all.example.com/")
    world.behaviours = {host: answer_always(503) for host in ("all.example.com", "own.example.com")}
    await world.start_replica()
    job = await world.end_job("https://own.example.com/")
    await asyncio.sleep(3.0)
    world.targets = {}
    await world.store.delete_job(job.id)
    await asyncio.sleep(10.0)
    outcomes = {record.target: record.attempts[-1].outcome for record in world.list_records()}
    assert outcomes == {"all": WebhookOutcome.TARGET_REMOVED, "": WebhookOutcome.JOB_DELETED}
    assert {record.status for record in world.list_records()} == {DeliveryStatus.FAILED}


@in_virtual_time
async def test_target_of_the_team_gets_a_thin_webhook_of_a_deleted_job() -> None:
    world = await open_world()
    world.add_target("all", "https://all.example.com/", payload="full")
    world.behaviours["all.example.com"] = answer_after(world.now() + 4.0)
    await world.start_replica()
    job = await world.end_job(None)
    await asyncio.sleep(2.0)
    await world.store.delete_job(job.id)
    await asyncio.sleep(10.0)
    [webhook] = world.received
    assert json.loads(webhook.body)["data"] == {"id": job.id, "object": "job", "status": "cancelled"}


@in_virtual_time
async def test_redelivery_has_the_same_id() -> None:
    world = await open_world()
    await world.start_replica()
    await world.end_job()
    await asyncio.sleep(3.0)
    [record] = world.list_records()
    assert await world.store.team_records.save(encode_delivery(request_again(record, world.now())), 0.0)
    await asyncio.sleep(3.0)
    assert [webhook.id for webhook in world.received] == [record.id] * 2
    [record] = world.list_records()
    assert record.status is DeliveryStatus.DELIVERED
    assert len(record.attempts) == 2


@in_virtual_time
async def test_crash_before_the_attempt_is_recorded_sends_the_webhook_again_with_its_id() -> None:
    world = await open_world(crash_rate=1.0)
    await world.start_replica()
    await world.end_job()
    await asyncio.sleep(2.5)
    assert [len(world.received), world.crash_count] == [1, 1]
    world.crash_rate = 0.0
    await world.start_replica()
    await asyncio.sleep(world.timing.lease_seconds)
    first, second = world.received
    assert first.id == second.id
    assert second.at - first.at <= world.timing.lease_seconds + 2.0
    assert world.list_records()[0].status is DeliveryStatus.DELIVERED


@in_virtual_time
async def test_crash_between_records_and_outbox_makes_no_second_record() -> None:
    world = await open_world()
    replica = await world.start_replica()
    acknowledge = replica.store.ack_delivery

    async def crash(*_: object) -> None:
        replica.kill()
        await acknowledge("", "")

    replica.store.ack_delivery = crash  # type: ignore[method-assign]
    await world.end_job()
    await asyncio.sleep(3.0)
    assert len(world.state.outbox) == len(world.list_records()) == 1
    await world.start_replica()
    await asyncio.sleep(2 * world.timing.lease_seconds)
    assert (len(world.received), len(world.list_records()), world.state.outbox) == (1, 1, {})


@pytest.mark.parametrize("is_after_effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, 16))
@in_virtual_time
async def test_crash_at_any_call_of_the_store_loses_nothing(number: int, is_after_effect: bool) -> None:
    """A webhook has some ten calls from the commit to its delivery. After a crash at any of them, another process
    continues, with the same id."""
    world = await open_world()
    world.add_target("all", "https://all.example.com/")
    first = await world.start_replica(CrashAtCall(world, number, is_after_effect=is_after_effect))
    await world.end_job("https://own.example.com/")
    await asyncio.sleep(10.0)
    await world.start_replica()
    await asyncio.sleep(3 * world.timing.lease_seconds)
    assert first.is_killed
    assert {record.status for record in world.list_records()} == {DeliveryStatus.DELIVERED}
    assert len(world.list_records()) == len(world.group_received()) == 2
    assert {webhook.url for webhook in world.received} == {"https://all.example.com/", "https://own.example.com/"}
    assert len(world.received) <= 4
    assert world.state.outbox == {}


@pytest.mark.thorough
@in_virtual_time
async def test_thousand_webhooks_survive_a_day_without_their_target_and_crashes() -> None:
    """All arrive, each with its one id. A crash repeats no webhook but the one that was open at that moment."""
    world = await open_world(crash_rate=0.05, interval_seconds=SLOW_INTERVAL_SECONDS)
    for _ in range(2):
        await world.start_replica()
    restarts = asyncio.create_task(replace_crashed_replicas(world))
    world.behaviours["hooks.example.com"] = answer_after(world.now() + DAY)
    jobs = set()
    for _ in range(1_000):
        jobs.add((await world.end_job()).id)
        await asyncio.sleep(0.2)
    await asyncio.sleep(50 * HOUR)
    restarts.cancel()
    groups = world.group_received()
    ids_by_job = {json.loads(webhook.body)["data"]["id"]: webhook.id for webhook in world.received}
    assert ids_by_job.keys() == jobs
    assert set(ids_by_job.values()) == groups.keys()
    assert len(jobs) == len(groups) == 1_000
    assert {record.status for record in world.list_records()} == {DeliveryStatus.DELIVERED}
    duplicates = len(world.received) - 1_000
    assert world.crash_count >= 20
    assert duplicates <= world.interrupted_count <= world.crash_count
    print(f"{world.crash_count} crashes, {world.interrupted_count} open webhooks, {duplicates} duplicates")
    assert world.state.outbox == {}


@pytest.mark.thorough
@pytest.mark.parametrize("dead", [None, 0], ids=["silent", "refuses connections"])
@in_virtual_time
async def test_dead_target_delays_no_other(dead: int | None) -> None:
    """A thousand webhooks for a dead target lie before those of another one, which still get there at once."""

    world = await open_world()
    world.behaviours["dead.example.com"] = answer_always(dead)
    for _ in range(1_000):
        await world.end_job("https://dead.example.com/")
    await world.start_replica()
    await asyncio.sleep(60.0)
    for _ in range(50):
        ended_at, known = world.now(), len(list(world.iterate_accepted()))
        await world.end_job("https://alive.example.com/")
        await asyncio.sleep(3.0)
        [webhook] = list(world.iterate_accepted())[known:]
        assert webhook.at - ended_at <= 2.0
    assert world.errors == []


@pytest.mark.parametrize(
    ("team", "is_restarted"),
    [(TEAM, False), (OTHER_TEAM, False), (OTHER_TEAM, True)],
    ids=["same team", "other team", "other team, after a restart"],
)
@in_virtual_time
async def test_hundred_silent_targets_delay_no_target(team: str, is_restarted: bool) -> None:
    """A hundred silent hosts of one team leave slots to a healthy host: of another team, also in a process that has not
    sent anything to these hosts before; and of the same team, once it has."""
    world = await open_world()
    for number in range(100):
        world.behaviours[f"dead-{number}.example.com"] = answer_always(None)
        for _ in range(5):
            await world.end_job(f"https://dead-{number}.example.com/")
    replica = await world.start_replica()
    await asyncio.sleep(120.0)
    if is_restarted:
        await replica.stop()
        await world.start_replica()
    for _ in range(5):
        await asyncio.sleep(10.0)
        ended_at, known = world.now(), len(list(world.iterate_accepted()))
        await world.end_job("https://alive.example.com/", team)
        await asyncio.sleep(3.0)
        [webhook] = list(world.iterate_accepted())[known:]
        assert webhook.at - ended_at <= 2.0


@in_virtual_time
async def test_first_attempts_to_silent_targets_delay_no_other_team() -> None:
    """The jobs of one team end all at once, before those of another. None of their hosts is known yet."""
    world = await open_world()
    for number in range(1_500):
        world.behaviours[f"dead-{number}.example.com"] = answer_always(None)
        await world.end_job(f"https://dead-{number}.example.com/")
    await world.start_replica()
    await asyncio.sleep(0.5)
    ended_at = world.now()
    await world.end_job("https://alive.example.com/", OTHER_TEAM)
    await asyncio.sleep(60.0)
    [webhook] = world.iterate_accepted()
    assert webhook.at - ended_at <= 2.0


@in_virtual_time
async def test_silent_targets_of_several_teams_leave_slots_to_healthy_ones() -> None:
    world = await open_world()
    teams = [f"team-{number}" for number in range(8)]
    world.teams = (TEAM, *teams)
    for number in range(160):
        world.behaviours[f"dead-{number}.example.com"] = answer_always(None)
        for _ in range(5):
            await world.end_job(f"https://dead-{number}.example.com/", teams[number % 8])
    await world.start_replica()
    await asyncio.sleep(120.0)
    for _ in range(5):
        ended_at, known = world.now(), len(list(world.iterate_accepted()))
        await world.end_job("https://alive.example.com/")
        await asyncio.sleep(3.0)
        [webhook] = list(world.iterate_accepted())[known:]
        assert webhook.at - ended_at <= 2.0


@in_virtual_time
async def test_busy_healthy_target_gets_its_webhooks_without_long_pauses() -> None:
    world = await open_world()
    for _ in range(1_000):
        await world.end_job()
    began_at = world.now()
    await world.start_replica()
    await asyncio.sleep(60.0)
    assert len(world.received) == 1_000
    # Eight at a time, 0.05 s each, are 160 a second. Before the first attempt, 40 a second are expected.
    assert max(webhook.at for webhook in world.received) - began_at <= 20.0


@in_virtual_time
async def test_two_replicas_send_each_webhook_once() -> None:
    world = await open_world()
    for _ in range(2):
        await world.start_replica()
    for _ in range(200):
        await world.end_job()
    await asyncio.sleep(30.0)
    assert len(world.received) == len(world.group_received()) == 200


@in_virtual_time
async def test_stopped_replica_records_its_running_attempts() -> None:
    world = await open_world()
    replica = await world.start_replica()
    await world.end_job()
    await world.first_received.wait()
    await replica.stop()
    assert world.list_records()[0].status is DeliveryStatus.DELIVERED
