"""Targets of webhooks that admins add: what is checked, and what their events say."""

import asyncio
from typing import Any

import pytest

from gateway.access.key_administration import InvalidKeyOption
from gateway.access.webhook_administration import (
    MAX_TEAM_TARGETS,
    WebhookTargetConflict,
    WebhookTargetNotFound,
)
from gateway.access.webhook_requests import (
    serialize_target,
)
from gateway.catalogue import Catalogue
from gateway.config.schema import TeamConfig
from gateway.config.value_types import TargetName, WebhookUrl
from gateway.config.webhook_schema import JOB_EVENTS, WebhookTargetConfig
from gateway.events import ErrorReported
from gateway.store.team_records import RecordKind, TeamRecord
from gateway.webhooks.webhook_events import WebhookTargetChanged
from tests.harness.memory_store import StoreCall
from tests.harness.virtual_time_loop import in_virtual_time
from tests.store.job_factory import NOON
from tests.unit.access.webhook_target_world import (
    ADMIN,
    CATALOGUE,
    DAY,
    URL,
    open_target_world,
)


@in_virtual_time
async def test_added_target_is_in_force_at_another_replica() -> None:
    world = await open_target_world()
    await world.add(events=("job.failed", "job.failed"), payload="full", private=True)
    assert list(world.catalogue.get().get_webhook_targets("acme")) == ["alarm"]
    await world.replica.refresh()
    target = world.catalogue.get().get_webhook_targets("acme")["orders"]
    assert target.config == WebhookTargetConfig(
        url=WebhookUrl(URL), events=("job.failed",), payload="full", private=True
    )
    assert world.catalogue.get().get_webhook_targets("free") == {}


@in_virtual_time
async def test_catalogue_is_replaced_only_when_a_target_or_the_configuration_changes() -> None:
    world = await open_target_world()
    assert world.catalogue.get() is CATALOGUE
    await world.add()
    await world.replica.refresh()
    joined = world.catalogue.get()
    world.clock.now += 60.0
    await world.replica.refresh()
    assert world.catalogue.get() is joined
    assert joined.fit_cache is CATALOGUE.fit_cache
    world.catalogue.set_configured(
        Catalogue(**{name: getattr(CATALOGUE, name) for name in CATALOGUE.__struct_fields__})
    )
    assert world.catalogue.get() is not joined
    assert set(world.catalogue.get().get_webhook_targets("acme")) == {"alarm", "orders"}


@in_virtual_time
async def test_targets_of_configuration_and_store_are_listed_together() -> None:
    world = await open_target_world()
    await world.add()
    await world.add(team="free", name="zebra")
    assert await world.list_names() == [("acme", "alarm"), ("acme", "orders"), ("free", "zebra")]
    assert await world.list_names("acme") == [("acme", "alarm"), ("acme", "orders")]
    alarm, orders = (serialize_target(target, NOON) for target in await world.webhooks.list_targets("acme"))
    assert (alarm["origin"], alarm["signed_with"], alarm["created_at"]) == ("teams.yaml", "team_secrets", None)
    assert (orders["origin"], orders["url"], orders["events"]) == ("store", URL, list(JOB_EVENTS))
    assert alarm["id"] != orders["id"]
    for target in await world.webhooks.list_targets():
        assert await world.webhooks.get_target(target.id) == target


@in_virtual_time
async def test_change_applies_only_what_it_names() -> None:
    world = await open_target_world()
    created = await world.add(description="orders of the shop", own_secret=True)
    changed = await world.change(created.target, payload="full", url="https://new.example.com/")
    assert serialize_target(changed, NOON) == serialize_target(created.target, NOON) | {
        "payload": "full",
        "url": "https://new.example.com/",
    }
    assert await world.list_secrets() == [created.secret]
    disabled = await world.change(changed, enabled=False)
    await world.replica.refresh()
    assert "orders" not in world.catalogue.get().get_webhook_targets("acme")
    await world.change(disabled, enabled=True, description="")
    assert await world.list_secrets() == [created.secret]


@in_virtual_time
async def test_change_without_an_effect_leaves_no_event() -> None:
    world = await open_target_world()
    created = await world.add()
    await world.change(created.target, payload="thin", url=URL)
    assert [action for action, _ in await world.list_events()] == ["webhook_target_added"]


@in_virtual_time
async def test_removed_target_is_gone_and_its_name_free() -> None:
    world = await open_target_world()
    created = await world.add(own_secret=True)
    await world.webhooks.remove_target(created.target.id, ADMIN)
    await world.replica.refresh()
    assert list(world.catalogue.get().get_webhook_targets("acme")) == ["alarm"]
    for action in (
        world.webhooks.get_target(created.target.id),
        world.webhooks.remove_target(created.target.id, ADMIN),
        world.change(created.target, enabled=False),
        world.webhooks.rotate_secret(created.target.id, DAY, ADMIN),
    ):
        with pytest.raises(WebhookTargetNotFound):
            await action
    assert (await world.add(own_secret=True)).secret != created.secret


@in_virtual_time
async def test_target_of_the_configuration_is_read_only() -> None:
    world = await open_target_world()
    [alarm] = await world.webhooks.list_targets("acme")
    for action in (
        world.webhooks.remove_target(alarm.id, ADMIN),
        world.change(alarm, enabled=False),
        world.webhooks.rotate_secret(alarm.id, DAY, ADMIN),
    ):
        with pytest.raises(WebhookTargetConflict, match=r"in teams\.yaml"):
            await action
    assert await world.list_events() == []


@in_virtual_time
async def test_configured_target_hides_a_stored_one_of_its_name() -> None:
    world = await open_target_world()
    world.catalogue.set_configured(
        Catalogue(
            **{name: getattr(CATALOGUE, name) for name in CATALOGUE.__struct_fields__}
            | {"teams": {"acme": TeamConfig()}}
        )
    )
    await world.add(name="alarm")
    world.catalogue.set_configured(CATALOGUE)
    await world.replica.refresh()
    target = world.catalogue.get().get_webhook_targets("acme")["alarm"]
    assert target.config.url == "https://alarm.example.com/"
    [listed] = await world.webhooks.list_targets("acme")
    assert listed.stored is None


@in_virtual_time
async def test_target_of_a_removed_team_is_listed_and_can_be_removed() -> None:
    world = await open_target_world()
    created = await world.add(team="free")
    world.catalogue.set_configured(
        Catalogue(**{name: getattr(CATALOGUE, name) for name in CATALOGUE.__struct_fields__} | {"teams": {}})
    )
    assert await world.list_names() == [("free", "orders")]
    await world.webhooks.remove_target(created.target.id, ADMIN)
    assert await world.list_names() == []


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"team": "acm"}, "team"),
        ({"name": "Orders"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 33}, "name"),
        ({"url": "orders.example.com"}, "url"),
        ({"url": "http://orders.example.com/"}, "url"),
        ({"url": "https://orders.example.com:8443/"}, "url"),
        ({"url": "https://user@orders.example.com/"}, "url"),
        ({"url": f"https://orders.example.com/{'x' * 2_048}"}, "url"),
        ({"description": "x" * 201}, "description"),
        ({"description": "two\nlines"}, "description"),
    ],
)
@in_virtual_time
async def test_invalid_target_is_named_and_leaves_no_event(changes: dict[str, Any], option: str) -> None:
    world = await open_target_world()
    with pytest.raises(InvalidKeyOption) as raised:
        await world.add(**changes)
    assert raised.value.option == option
    assert await world.list_events() == []
    if option in ("url", "description"):
        created = await world.add()
        with pytest.raises(InvalidKeyOption) as raised:
            await world.change(created.target, **changes)
        assert raised.value.option == option


@in_virtual_time
async def test_misspelled_team_gets_a_suggestion() -> None:
    world = await open_target_world()
    with pytest.raises(InvalidKeyOption, match="did you mean 'acme'"):
        await world.add(team="acne")


@in_virtual_time
async def test_private_target_cannot_become_public_with_plain_http() -> None:
    world = await open_target_world()
    created = await world.add(url="http://alarm.internal:8080/", private=True)
    with pytest.raises(InvalidKeyOption, match="private"):
        await world.change(created.target, private=False)


@in_virtual_time
async def test_names_are_unique_and_made_if_missing() -> None:
    world = await open_target_world()
    await world.add()
    for name in ("orders", "alarm"):
        with pytest.raises(WebhookTargetConflict, match="another name"):
            await world.add(name=name)
    names = {(await world.add(name=None)).target.name for _ in range(2)}
    assert len(names) == 2
    assert all(TargetName.parse(name) for name in names)


@in_virtual_time
async def test_team_has_a_limited_number_of_targets() -> None:
    world = await open_target_world()
    created = [await world.add(name=f"target-{number}") for number in range(MAX_TEAM_TARGETS)]
    with pytest.raises(WebhookTargetConflict, match=f"{MAX_TEAM_TARGETS} targets"):
        await world.add()
    await world.add(team="free")
    await world.webhooks.remove_target(created[3].target.id, ADMIN)
    await world.add()


@in_virtual_time
async def test_concurrent_admins_add_one_target_of_a_name_and_lose_no_other() -> None:
    world = await open_target_world()
    added = [world.add(name=name) for name in ("a", "b", "c", "a")]
    results = await asyncio.gather(*added, return_exceptions=True)
    assert [type(result) for result in results if isinstance(result, BaseException)] == [WebhookTargetConflict]
    assert await world.list_names("acme") == [("acme", name) for name in ("a", "alarm", "b", "c")]


@in_virtual_time
async def test_each_change_is_an_event_without_url_and_secret() -> None:
    world = await open_target_world()
    created = await world.add(private=True, events=("job.failed",), own_secret=True, description="shop")
    world.clock.now += 1.0
    await world.change(created.target, url="https://new.example.com/secret-path", enabled=False)
    world.clock.now += 1.0
    await world.webhooks.rotate_secret(created.target.id, DAY, ADMIN)
    world.clock.now += 1.0
    await world.webhooks.remove_target(created.target.id, ADMIN)
    common = {"target": "orders", "events": ["job.failed"], "payload": "thin", "private": True, "own_secret": True}
    old, new = {"host": "orders.example.com"}, {"host": "new.example.com", "disabled": True}
    assert await world.list_events() == [
        ("webhook_target_added", common | old | {"description": "shop"}),
        ("webhook_target_changed", common | new | {"description": "shop", "url_changed": True}),
        ("webhook_secret_rotated", {"target": "orders", "old_secret_expires_at": "2040-05-11T12:00:02+00:00"}),
        ("webhook_target_removed", common | new | {"description": "shop"}),
    ]
    emitted = [event for event in world.emitted if isinstance(event, WebhookTargetChanged)]
    assert [event.action for event in emitted] == [action for action, _ in await world.list_events()]
    assert {(event.team, event.target, event.actor, event.source) for event in emitted} == {
        ("acme", "orders", "cli:ann", "host")
    }


class RepeatedSave:
    """Lets the first save of targets be answered as its own repetition, after a lost answer, would be: refused."""

    def __init__(self) -> None:
        self.is_done = False

    async def before_call(self, call: StoreCall) -> None:
        """Nothing is lost before the effect."""

    async def after_call(self, call: StoreCall, result: object) -> None:
        record = call.arguments[0] if call.name == "save_team_record" else None
        if not self.is_done and isinstance(record, TeamRecord) and record.kind is RecordKind.WEBHOOK_TARGETS:
            self.is_done = True
            call.answer(False)


@in_virtual_time
async def test_change_whose_answer_was_lost_is_recognized() -> None:
    interceptor = RepeatedSave()
    world = await open_target_world(interceptor)
    created = await world.add(own_secret=True)
    assert interceptor.is_done
    assert await world.list_secrets() == [created.secret]
    assert [action for action, _ in await world.list_events()] == ["webhook_target_added"]


@in_virtual_time
async def test_record_of_another_version_stops_no_other() -> None:
    world = await open_target_world()
    await world.add()
    await world.add(team="free")
    table = world.state.team_records
    broken = next(record for record in table.records.values() if record.team == "acme")
    table.records[broken.id] = TeamRecord(
        **{name: getattr(broken, name) for name in broken.__struct_fields__} | {"content": b"\xc1"}
    )
    await world.replica.refresh()
    assert list(world.catalogue.get().get_webhook_targets("free")) == ["orders"]
    assert [event.component for event in world.emitted if isinstance(event, ErrorReported)] == ["webhooks"]
