"""Records of teams change by compare-and-set on their version, are listed for their team, and are due at their time."""

import asyncio

from msgspec.structs import replace

from gateway.store.team_records import RecordKind, TeamRecord
from tests.store.store_harness import StoreHarness


def make_record(
    number: int, kind: RecordKind = RecordKind.FILE, team: str = "acme", created_at: float = 1.5
) -> TeamRecord:
    prefix = {
        RecordKind.FILE: "file-",
        RecordKind.BUDGET_OVERRIDE: "override_",
        RecordKind.BUDGET_THRESHOLD: "threshold_",
        RecordKind.WEBHOOK_TARGETS: "targets_",
    }.get(kind, f"{kind}_")
    return TeamRecord(
        id=f"{prefix}{number:028}", kind=kind, team=team, created_at=created_at, version=1, content=b"\x00content"
    )


async def save(harness: StoreHarness, record: TeamRecord, due_in_seconds: float | None = None) -> bool:
    return await harness.store.team_records.save(record, due_in_seconds)


async def list_due(harness: StoreHarness, kind: RecordKind, limit: int = 100) -> list[str]:
    return [record.id for record in await harness.store.team_records.list_due(kind, limit)]


async def test_saved_record_is_loaded_as_it_was(harness: StoreHarness) -> None:
    record = make_record(1, team="ünïcode: team", created_at=1_800_000_000.123456)
    assert await save(harness, record)
    assert await harness.store.team_records.load(record.id) == record
    assert await harness.store.team_records.load(make_record(2).id) is None
    assert await harness.store.team_records.load("job_" + "0" * 28) is None


async def test_record_of_each_kind_is_found_by_its_id_and_due_by_its_kind(harness: StoreHarness) -> None:
    records = {
        kind: make_record(number, kind)
        for number, kind in enumerate(kind for kind in RecordKind if kind is not RecordKind.DELETED)
    }
    for record in records.values():
        assert await save(harness, record, 5.0)
    harness.advance_time(5.0)
    for kind, record in records.items():
        assert await harness.store.team_records.load(record.id) == record
        assert await list_due(harness, kind) == [record.id]
        assert await harness.store.team_records.list_records(kind, "acme", 9) == (record,)


async def test_record_changes_only_from_the_version_before(harness: StoreHarness) -> None:
    record = make_record(1)
    assert await save(harness, record)
    assert not await save(harness, record)
    changed = replace(record, version=2, content=b"changed")
    assert await save(harness, changed)
    assert not await save(harness, replace(record, version=2, content=b"late"))
    assert not await save(harness, replace(record, version=4))
    assert await harness.store.team_records.load(record.id) == changed


async def test_deleted_record_stays_deleted(harness: StoreHarness) -> None:
    record = make_record(1)
    await save(harness, record, 0.0)
    for _ in range(2):
        await harness.store.team_records.delete(record.id)
    assert not await save(harness, replace(record, version=2))
    assert await harness.store.team_records.load(record.id) is None
    assert await harness.store.team_records.list_records(record.kind, record.team, 9) == ()
    assert await list_due(harness, record.kind) == []


async def test_records_are_listed_newest_first_for_their_team_and_kind(harness: StoreHarness) -> None:
    records = [make_record(number, created_at=float(number // 2)) for number in range(5)]
    others = [make_record(5, team="other"), make_record(6, RecordKind.BATCH)]
    for record in [*records, *others]:
        await save(harness, record)
    first_page = await harness.store.team_records.list_records(RecordKind.FILE, "acme", 2)
    rest = await harness.store.team_records.list_records(RecordKind.FILE, "acme", 100, first_page[-1].position)
    assert [*first_page, *rest] == records[::-1]
    assert await harness.store.team_records.list_records(RecordKind.BATCH, "acme", 9) == (others[1],)


async def test_records_are_listed_oldest_first(harness: StoreHarness) -> None:
    records = [make_record(number, created_at=float(number // 2)) for number in range(5)]
    for record in [*records, make_record(5, team="other")]:
        await save(harness, record)
    team_records, position, listed = harness.store.team_records, None, []
    while page := await team_records.list_records(RecordKind.FILE, "acme", 2, position, oldest_first=True):
        listed += page
        position = page[-1].position
    assert listed == records


async def test_list_continues_after_a_deleted_record(harness: StoreHarness) -> None:
    records = [make_record(number, created_at=float(number)) for number in range(3)]
    for record in records:
        await save(harness, record)
    team_records, deleted = harness.store.team_records, records[1]
    await team_records.delete(deleted.id)
    assert await team_records.list_records(RecordKind.FILE, "acme", 9, deleted.position) == (records[0],)
    assert await team_records.list_records(RecordKind.FILE, "acme", 9, deleted.position, True) == (records[2],)


async def test_records_are_due_at_their_time(harness: StoreHarness) -> None:
    early, late, never = (make_record(number) for number in range(3))
    await save(harness, late, 20.0)
    await save(harness, early, 10.0)
    await save(harness, never)
    assert await list_due(harness, RecordKind.FILE) == []
    harness.advance_time(21.0)
    assert await list_due(harness, RecordKind.FILE) == [early.id, late.id]
    assert await list_due(harness, RecordKind.FILE, 1) == [early.id]
    assert await list_due(harness, RecordKind.BATCH) == []
    assert await save(harness, replace(early, version=2), 10.0)
    assert await list_due(harness, RecordKind.FILE) == [late.id]


async def test_one_of_many_claims_succeeds(harness: StoreHarness) -> None:
    record = make_record(1, RecordKind.BATCH)
    await save(harness, record, 0.0)
    claims = [save(harness, replace(record, version=2, content=b"%d" % number), 15.0) for number in range(8)]
    assert sorted(await asyncio.gather(*claims)) == [False] * 7 + [True]
    assert await list_due(harness, RecordKind.BATCH) == []


async def test_claimed_record_is_not_listed_as_due(shared_harness: StoreHarness) -> None:
    """Also if another replica claims it during the listing."""
    async with shared_harness.open_another("two") as two:
        for number in range(200):
            record = make_record(number)
            assert await save(shared_harness, record, 0.0)

            async def claim(record: TeamRecord = record, number: int = number) -> None:
                await asyncio.sleep(number % 20 / 20_000)
                assert await save(shared_harness, replace(record, version=2), 60.0)

            page, _ = await asyncio.gather(two.team_records.list_due(RecordKind.FILE), claim())
            assert page in ((record,), ())
